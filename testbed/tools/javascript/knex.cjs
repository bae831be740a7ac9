const knex = require("knex")({
  client: "pg",
  connection: process.env.DATABASE_URL,
  pool: { min: 0, max: 2 },
  migrations: { directory: "./migrations" },
});

require("./serve.cjs")({
  to: async ({ count }) => {
    const [completed] = await knex.migrate.list();
    for (let done = completed.length; done < count; done += 1) await knex.migrate.up();
  },
  all: () => knex.migrate.latest(),
  down: () => knex.migrate.down(),
  status: async () => (await knex.migrate.list())[0].map(({ name }) => name),
  close: () => knex.destroy(),
});
