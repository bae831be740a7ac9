import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.StringWriter;
import java.net.URI;
import java.sql.Connection;
import java.sql.DriverManager;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.logging.Level;
import java.util.logging.Logger;
import java.util.stream.Collectors;
import liquibase.integration.commandline.LiquibaseCommandLine;
import org.flywaydb.core.Flyway;
import org.flywaydb.core.api.MigrationInfo;
import org.flywaydb.database.postgresql.PostgreSQLConfigurationExtension;
import org.yaml.snakeyaml.Yaml;

/** Answers the requests of testbed/tools/driver.py with a tool of the JVM, one JSON object a line, as serve.cjs does. */
public class Serve {
  interface Tool {
    void to(int count) throws Exception;

    void all() throws Exception;

    void down() throws Exception;

    List<String> status() throws Exception;
  }

  record Database(String url, String user, String password) {
    static Database of(String text) {
      URI uri = URI.create(text);
      String[] credentials = uri.getUserInfo().split(":", 2);
      String url = "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath();
      return new Database(url, credentials[0], credentials[1]);
    }
  }

  /** What an application embeds; the command line of Flyway calls nothing else. */
  static class FlywayTool implements Tool {
    private final Database database;

    FlywayTool(Database database) {
      this.database = database;
    }

    private Flyway flyway(String target) {
      var configuration = Flyway.configure()
          .dataSource(database.url(), database.user(), database.password())
          .locations("filesystem:migrations")
          .target(target)
          .outOfOrder(true)
          .baselineVersion("20250101000002");
      boolean transactional = !"false".equals(System.getenv("TRANSACTIONAL_LOCK")); // as is Flyway's default
      configuration.getConfigurationExtension(PostgreSQLConfigurationExtension.class).setTransactionalLock(transactional);
      return configuration.load();
    }

    public void to(int count) {
      List<MigrationInfo> known = Arrays.stream(flyway("latest").info().all()).filter(MigrationInfo::isVersioned).toList();
      if (count > 0) flyway(known.get(count - 1).getVersion().toString()).migrate();
    }

    public void all() {
      flyway("latest").migrate();
    }

    public void down() {
      throw new UnsupportedOperationException("the free edition takes nothing back");
    }

    /** Forgets what failed, and marks as deleted what has lost its file. */
    public void repair() {
      flyway("latest").repair();
    }

    public void baseline() {
      flyway("latest").baseline();
    }

    public List<String> status() {
      return Arrays.stream(flyway("latest").info().applied())
          .filter(info -> info.getState().isApplied() && !info.getState().isFailed())
          .filter(info -> !List.of("DELETED", "UNDONE").contains(info.getState().name()))
          .map(info -> info.isVersioned() ? info.getVersion().toString() : info.getScript())
          .toList();
    }
  }

  /** The command line itself. */
  static class LiquibaseTool implements Tool {
    private final Database database;

    LiquibaseTool(Database database) {
      this.database = database;
    }

    private void run(String... command) {
      List<String> arguments = new ArrayList<>(List.of(
          "--url=" + database.url(), "--username=" + database.user(), "--password=" + database.password(),
          "--changelog-file=changes.sql", "--search-path=migrations", "--log-level=severe", "--show-banner=false"));
      arguments.addAll(List.of(command));
      if (new LiquibaseCommandLine().execute(arguments.toArray(String[]::new)) != 0)
        throw new IllegalStateException("liquibase " + command[0] + " failed");
    }

    public void to(int count) throws Exception {
      int missing = count - (count > 0 ? status().size() : 0);
      if (missing > 0) run("update-count", "--count=" + missing);
    }

    public void all() {
      run("update");
    }

    public void down() {
      run("rollback-count", "--count=1");
    }

    /** `history` is for people: the changelog's own class gives the same. */
    public List<String> status() throws Exception {
      try (Connection connection = DriverManager.getConnection(database.url(), database.user(), database.password())) {
        var target = liquibase.database.DatabaseFactory.getInstance()
            .findCorrectDatabaseImplementation(new liquibase.database.jvm.JdbcConnection(connection));
        var history = new liquibase.changelog.StandardChangeLogHistoryService();
        history.setDatabase(target);
        if (!history.hasDatabaseChangeLogTable()) return List.of();
        return history.getRanChangeSets().stream()
            .map(set -> set.getChangeLog() + "::" + set.getId() + "::" + set.getAuthor())
            .toList();
      }
    }
  }

  public static void main(String[] arguments) throws Exception {
    PrintStream answers = System.out;
    System.setOut(System.err); // answers alone go to stdout
    Logger.getLogger("").setLevel(Level.SEVERE);
    Database database = Database.of(System.getenv("DATABASE_URL"));
    Tool tool = arguments[0].equals("flyway") ? new FlywayTool(database) : new LiquibaseTool(database);
    BufferedReader requests = new BufferedReader(new InputStreamReader(System.in));
    for (String line = requests.readLine(); line != null; line = requests.readLine()) {
      Map<String, Object> request = new Yaml().load(line); // of which JSON is a part
      String error = null;
      try {
        act(tool, request);
      } catch (Exception thrown) {
        thrown.printStackTrace();
        error = String.valueOf(thrown.getMessage());
      }
      String applied = tool.status().stream().map(Serve::quoted).collect(Collectors.joining(", "));
      answers.println("{\"error\": " + (error == null ? "null" : quoted(error)) + ", \"applied\": [" + applied + "]}");
      answers.flush();
    }
  }

  private static void act(Tool tool, Map<String, Object> request) throws Exception {
    switch ((String) request.get("act")) {
      case "to" -> tool.to((Integer) request.get("count"));
      case "all" -> tool.all();
      case "down" -> tool.down();
      case "repair" -> ((FlywayTool) tool).repair();
      case "baseline" -> ((FlywayTool) tool).baseline();
      default -> {}
    }
  }

  private static String quoted(String text) {
    StringWriter quoted = new StringWriter();
    text.chars().forEach(unit -> quoted.append(
        unit < ' ' || unit == '"' || unit == '\\' ? String.format("\\u%04x", unit) : String.valueOf((char) unit)));
    return '"' + quoted.toString() + '"';
  }
}
