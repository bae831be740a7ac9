# Answers the requests of testbed/tools/driver.py with the migrations of ActiveRecord, as serve.cjs does.
require "json"
require "logger"
require "active_record"

answers = $stdout.dup
$stdout = $stderr # answers alone go to stdout
ActiveRecord::Base.establish_connection(ENV.fetch("DATABASE_URL"))

def migrations = ActiveRecord::MigrationContext.new("migrations", ActiveRecord::SchemaMigration)

def act(request)
  case request["act"]
  when "to"
    count = request["count"]
    migrations.up(migrations.migrations[count - 1].version) if count.positive?
  when "all" then migrations.migrate
  when "down" then migrations.rollback(1)
  end
end

$stdin.each_line do |line|
  begin
    error = nil
    act(JSON.parse(line))
  rescue StandardError => thrown
    error = thrown.message
  end
  # Like `rails db:migrate:status`, which asks for the table first.
  known = ActiveRecord::SchemaMigration.table_exists? ? migrations.migrations_status : []
  applied = known.filter_map { |status, version, _| version if status == "up" }
  answers.puts(JSON.generate(error: error, applied: applied))
  answers.flush
end
