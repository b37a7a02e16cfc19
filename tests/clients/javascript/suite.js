// Runs the cases of cases.js, each once, and writes each result as a line of JSON: {"name", "error"}, with a null error for a passed case.
//
//   node suite.js list         the cases: {"name", "stores", "gateway", "signed"}
//   node suite.js run < place  the place as JSON: endpoint, bucket, store, keyId, secret, prefix
//
// One process for all cases, because loading the SDK takes longer than most of them. The caller
// selects the cases of a place.
import { cases } from "./cases.js";
import { Place } from "./place.js";

const writeLine = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

async function outcome(test, place) {
  try {
    await test(place);
    return null;
  } catch (error) {
    const answer = error.$response ? `\nanswer: ${error.$response.statusCode}` : "";
    return `${error.stack}${answer}`;
  }
}

async function run() {
  let input = "";
  for await (const piece of process.stdin) input += piece;
  const settings = JSON.parse(input);
  for (const { name, test } of cases.filter((wanted) => settings.cases.includes(wanted.name))) {
    writeLine({ name, error: await outcome(test, new Place(settings, name)) });
  }
}

switch (process.argv[2]) {
  case "list":
    for (const { test, ...listed } of cases) writeLine(listed);
    break;
  case "run":
    await run();
    break;
  default:
    process.stderr.write("usage: node suite.js list|run\n");
    process.exitCode = 2;
}
