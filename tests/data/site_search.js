// Asks the search of the documentation's site what users of such tools ask, and fails where the
// page that answers is not among the first. The engine is the theme's own, as a browser runs it.
//
//     node tests/data/site_search.js SITE    SITE: what `mkdocs build` wrote
"use strict";
const fs = require("fs");
const path = require("path");
const vm = require("vm");

const FIRST = 3;
// query: the pages of which one has to be among the first
const QUESTIONS = {
  "how to distil an LSTM": ["questions/", "guides/sequences/"],
  "why did accuracy drop after int8": ["questions/", "guides/layer-errors/"],
  "why is my LSTM wrong on the second call": ["questions/", "concepts/recurrent/"],
  "which arena size": ["questions/", "concepts/microcontrollers/"],
  "QAT of a Keras 3 model": ["questions/", "quantization/"],
  "how to prune so that it is faster": ["concepts/pruning/", "guides/spiral/"],
  "representative dataset": ["questions/", "guides/verify/"],
  "op not supported on microcontroller": ["questions/", "on-the-device/"],
  "Didn't find op for builtin opcode": ["questions/", "on-the-device/"],
  "float16 on GPU": ["questions/", "guides/android/"],
  "model with custom layer": ["questions/", "guides/own-layers/"],
  "how to use a PyTorch teacher": ["questions/", "coming-from/pytorch/"],
};

const [site] = process.argv.slice(2);
const workers = path.join(site, "assets", "javascripts", "workers");
const [worker] = fs.readdirSync(workers).filter((name) => /^search\..*\.js$/.test(name));
let ask;
globalThis.self = globalThis;
globalThis.addEventListener = (_, handler) => (ask = handler);

async function asked(type, data) {
  let answer;
  globalThis.postMessage = (message) => (answer = message.data);
  await ask({ data: { type, data } });
  return answer;
}

async function main() {
  vm.runInThisContext(fs.readFileSync(path.join(workers, worker), "utf8"));
  const index = JSON.parse(fs.readFileSync(path.join(site, "search", "search_index.json"), "utf8"));
  await asked(0, { ...index, options: { suggest: false } });
  let missed = 0;
  for (const [query, wanted] of Object.entries(QUESTIONS)) {
    const { items } = await asked(2, query);
    const pages = items.map(([first]) => first.location.split("#")[0]);
    const ranks = wanted.map((page) => pages.indexOf(page) + 1);
    const found = ranks.some((rank) => rank > 0 && rank <= FIRST);
    missed += !found;
    console.log(`${found ? "found" : "NOT FOUND"}: ${query}: ${wanted.map((page, i) => `${page} ${ranks[i]}`).join(", ")}`);
  }
  process.exitCode = missed ? 1 : 0;
}

main();
