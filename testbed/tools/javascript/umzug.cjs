const { Sequelize } = require("sequelize");
const { SequelizeStorage, Umzug } = require("umzug");

const sequelize = new Sequelize(process.env.DATABASE_URL, { logging: false });
const umzug = new Umzug({
  migrations: { glob: "migrations/*.js" },
  context: sequelize.getQueryInterface(),
  storage: new SequelizeStorage({ sequelize }),
  logger: undefined,
});

require("./serve.cjs")({
  to: async ({ count }) => {
    const missing = count - (await umzug.executed()).length;
    if (missing > 0) await umzug.up({ step: missing });
  },
  all: () => umzug.up(),
  down: () => umzug.down(),
  status: async () => (await umzug.executed()).map(({ name }) => name),
  close: () => sequelize.close(),
});
