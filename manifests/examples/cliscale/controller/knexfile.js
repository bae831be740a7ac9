// The same three environments as in the chart's `migrations.environment`; NODE_ENV chooses.
const common = {
  client: 'pg',
  connection: {
    host: process.env.DB_HOST,
    port: Number(process.env.DB_PORT),
    database: process.env.DB_NAME,
    user: process.env.DB_USER,
    password: process.env.DB_PASSWORD,
  },
  migrations: { directory: './src/migrations' },
};

module.exports = {
  development: common,
  staging: common,
  production: { ...common, pool: { min: 0, max: 4 } },
};
