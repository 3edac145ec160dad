/** Answer texts with transformers.js in Node: `node transformers.mjs BUNDLE TEXTS.json ANSWERS.json`. */

import { readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { env, pipeline } from '@huggingface/transformers';

const [bundle, texts, out] = process.argv.slice(2);
const { labels, model } = JSON.parse(readFileSync(`${bundle}/bundle.json`));
env.allowRemoteModels = false;
env.localModelPath = `${dirname(bundle)}/`;
const classify = await pipeline('text-classification', basename(bundle), {
  dtype: model.endsWith('_quantized.onnx') ? 'q8' : 'fp32',
  session_options: { intraOpNumThreads: 1, interOpNumThreads: 1 },
});
const rows = [];
const start = performance.now();
for (const text of JSON.parse(readFileSync(texts))) {
  const scores = await classify(text, { top_k: null });
  rows.push(labels.map((label) => scores.find((entry) => entry.label === label).score));
}
const seconds = (performance.now() - start) / 1000;
writeFileSync(out, JSON.stringify({ version: env.version, rows, seconds }));
