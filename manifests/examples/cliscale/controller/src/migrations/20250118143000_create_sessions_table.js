exports.up = (knex) =>
  knex.schema.createTable('sessions', (table) => {
    table.text('id').primary();
    table.text('workspace_id').notNullable().references('workspaces.id');
    table.timestamp('started_at').defaultTo(knex.fn.now());
  });

exports.down = (knex) => knex.schema.dropTableIfExists('sessions');
