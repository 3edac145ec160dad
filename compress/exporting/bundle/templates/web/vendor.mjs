/** Copy the three files that the page loads from node_modules to vendor/: `npm install && npm run vendor`. */

import { copyFile, mkdir } from 'node:fs/promises';

const FILES = [
  'onnxruntime-web/dist/ort.wasm.bundle.min.mjs',
  'onnxruntime-web/dist/ort-wasm-simd-threaded.wasm',
  '@huggingface/tokenizers/dist/tokenizers.min.mjs',
];

const here = (name) => new URL(name, import.meta.url);
await mkdir(here('vendor/'), { recursive: true });
for (const file of FILES) {
  await copyFile(here(`node_modules/${file}`), here(`vendor/${file.split('/').at(-1)}`));
}
