/**
 * Answer texts with the bundle's own page in headless Chromium, and take its picture.
 *
 *     node browser.mjs BUNDLE TEXTS.json ANSWERS.json CHROMIUM [PICTURE.png]
 *
 * A server on this machine gives the page its files. Once it is loaded the browser is set offline. Anything
 * asked of another server is an error.
 */

import { createReadStream, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { chromium } from 'playwright-core';

const TYPES = {
  '.css': 'text/css',
  '.html': 'text/html',
  '.json': 'application/json',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
};
const TYPED = 'The plot is thin, but the cast is so much fun that you forgive it everything.';

const [bundle, texts, out, executablePath, picture] = process.argv.slice(2);
const server = createServer((request, response) => {
  const path = normalize(new URL(request.url, 'http://localhost').pathname);
  const file = join(bundle, path.endsWith('/') ? `${path}index.html` : path);
  if (!existsSync(file)) return response.writeHead(404).end();
  response.writeHead(200, { 'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream' });
  return createReadStream(file).pipe(response);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const origin = `http://127.0.0.1:${server.address().port}`;

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
try {
  const page = await browser.newPage({ viewport: { width: 820, height: 560 }, deviceScaleFactor: 2 });
  const problems = [];
  page.on('request', (request) => {
    if (!request.url().startsWith(origin) && !request.url().startsWith('data:')) problems.push(request.url());
  });
  page.on('pageerror', (error) => problems.push(error.message));
  const start = performance.now();
  await page.goto(`${origin}/web/`);
  await page.waitForSelector('body[data-ready], #error:not([hidden])', { timeout: 120_000 });
  const load = (performance.now() - start) / 1000;
  const failed = await page.locator('#error').textContent();
  if (failed) throw new Error(failed);
  await page.context().setOffline(true);
  const answers = await page.evaluate(async (sentences) => {
    const { classify } = await import('./page.mjs');
    const all = [];
    for (const sentence of sentences) all.push(await classify(sentence));
    return all;
  }, JSON.parse(readFileSync(texts)));
  await page.fill('#text', TYPED);
  await page.waitForSelector('#result:not([hidden])');
  if (picture) await page.screenshot({ path: picture });
  if (problems.length) throw new Error(`the page is not self-contained: ${problems.join('; ')}`);
  const { labels } = JSON.parse(readFileSync(`${bundle}/bundle.json`));
  writeFileSync(
    out,
    JSON.stringify({
      version: browser.version(),
      rows: answers.map(({ scores }) => labels.map((label) => scores[label])),
      seconds: answers.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / 1000,
      load,
    }),
  );
} finally {
  await browser.close();
  server.close();
}
