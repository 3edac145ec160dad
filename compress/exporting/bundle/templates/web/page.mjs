/** The page: opens the bundle beside it and classifies what is typed. */

import { Classifier } from '../js/classifier.mjs';

const element = (id) => document.getElementById(id);
const percent = (value) => `${(100 * value).toFixed(1)}%`;
let classifier;
let asked = 0;

async function open() {
  const [ort, { Tokenizer }] = await Promise.all([
    import('./vendor/ort.wasm.bundle.min.mjs'),
    import('./vendor/tokenizers.min.mjs'),
  ]).catch((error) => {
    throw new Error(`The runtime is not there (${error.message}). Run: npm install && npm run vendor`);
  });
  ort.env.wasm.wasmPaths = { wasm: new URL('vendor/ort-wasm-simd-threaded.wasm', import.meta.url).href };
  ort.env.wasm.numThreads = 1;
  const start = performance.now();
  classifier = await Classifier.open({ ort, Tokenizer, read, options: { logSeverityLevel: 3 } });
  const seconds = ((performance.now() - start) / 1000).toFixed(1);

  const { name, pair, model } = classifier.settings;
  const size = (classifier.modelBytes / 1e6).toFixed(1);
  element('name').textContent = name;
  element('facts').textContent =
    `${size} MB (${model.split('/').at(-1)}) · loaded in ${seconds} s · WebAssembly, one thread`;
  element('second').hidden = pair !== true;
  for (const id of ['text', 'pair']) {
    element(id).disabled = false;
    element(id).addEventListener('input', () => answer().catch(fail));
  }
  element('text').focus();
  document.body.dataset.ready = 'true';
}

async function read(name) {
  const response = await fetch(new URL(`../${name}`, import.meta.url));
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
}

async function answer() {
  const text = element('text').value;
  const pair = classifier.settings.pair ? element('pair').value : null;
  const number = ++asked;
  if (!text.trim() || pair?.trim() === '') {
    element('result').hidden = true;
    return;
  }
  const result = await classifier.classify(text, pair);
  if (number === asked) show(result); // nothing newer was typed meanwhile
}

function show({ label, labels, scores = {}, value, tokens, milliseconds }) {
  const best = labels ?? (label === undefined ? [] : [label]);
  element('answer').textContent = value === undefined ? best.join(', ') || 'none' : value.toFixed(2);
  const order = Object.entries(scores).sort((one, other) => other[1] - one[1]);
  element('bars').replaceChildren(...order.map(([name, score]) => bar(name, score, best.includes(name))));
  element('time').textContent = `${tokens} tokens in ${milliseconds.toFixed(1)} ms`;
  element('result').hidden = false;
}

function bar(name, score, best) {
  const row = document.createElement('div');
  row.className = best ? 'bar best' : 'bar';
  const title = Object.assign(document.createElement('span'), { textContent: name });
  const track = Object.assign(document.createElement('div'), { className: 'track' });
  track.append(document.createElement('div'));
  track.firstChild.style.width = `${100 * score}%`;
  const number = Object.assign(document.createElement('span'), { textContent: percent(score) });
  row.append(title, track, number);
  return row;
}

function fail(error) {
  element('error').textContent = error.message;
  element('error').hidden = false;
}

open().catch(fail);
export const classify = (...texts) => classifier.classify(...texts);
