exports.up = (knex) =>
  knex.schema.createTable('workspaces', (table) => {
    table.text('id').primary();
    table.text('owner_id').notNullable();
    table.timestamp('created_at').defaultTo(knex.fn.now());
  });

exports.down = (knex) => knex.schema.dropTableIfExists('workspaces');
