// Answers the requests of testbed/tools/driver.py, one JSON object a line: {act, ...} to {error, applied}.
// `applied` is what the tool itself says that it has applied, oldest first, after every act.
const readline = require("node:readline");

console.log = console.info = console.warn = console.error; // stdout is for answers alone

module.exports = async function serve(tool) {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { act, ...rest } = JSON.parse(line);
    let error = null;
    try {
      if (act !== "status") await tool[act](rest);
    } catch (thrown) {
      error = String(thrown.message ?? thrown) || String(thrown);
    }
    process.stdout.write(`${JSON.stringify({ error, applied: await tool.status() })}\n`);
  }
  await tool.close();
};
