/**
 * Classify text in Node, one JSON line for each text.
 *
 *     npm install --ignore-scripts       # once, in this folder
 *     node classify.mjs "a wonderful film" "a dull one"
 *     node classify.mjs < texts.txt      # one text a line; a pair as first<TAB>second
 */

import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { Tokenizer } from '@huggingface/tokenizers';
import * as ort from 'onnxruntime-node';
import { Classifier } from '../js/classifier.mjs';

const classifier = await Classifier.open({
  ort,
  Tokenizer,
  read: (name) => readFile(new URL(`../${name}`, import.meta.url)),
  options: { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3 },
});

const words = process.argv.slice(2);
for await (const line of words.length ? words : createInterface({ input: process.stdin })) {
  const tab = classifier.settings.pair === false ? -1 : line.indexOf('\t');
  const texts = tab < 0 ? [line] : [line.slice(0, tab), line.slice(tab + 1)];
  console.log(JSON.stringify(await classifier.classify(...texts)));
}
