exports.up = (knex) =>
  knex.schema.createTable('user_preferences', (table) => {
    table.text('user_id').primary();
    table.jsonb('preferences').notNullable();
    table.timestamp('updated_at').defaultTo(knex.fn.now());
  });

exports.down = (knex) => knex.schema.dropTableIfExists('user_preferences');
