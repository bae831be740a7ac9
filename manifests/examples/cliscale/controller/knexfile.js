const { existsSync } = require('node:fs');

// src/contracts has the migrations that break older images. The expand phase leaves them out; Knex then does not complain
// that the database has some of them already.
const expand = process.env.LEDGERGATE_PHASE === 'expand';
const directories = expand ? ['./src/migrations'] : ['./src/migrations', './src/contracts'];

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
  migrations: {
    directory: directories.filter((directory) => existsSync(directory)),
    disableMigrationsListValidation: expand,
  },
};

module.exports = {
  development: common,
  staging: common,
  production: { ...common, pool: { min: 0, max: 4 } },
};
