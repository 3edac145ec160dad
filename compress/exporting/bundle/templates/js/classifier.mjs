/** The bundle's model in JavaScript. The caller brings the runtime, so Node and browser share this file. */

export class Classifier {
  /**
   * Open a bundle.
   *
   * @param ort onnxruntime-node or onnxruntime-web.
   * @param Tokenizer the class of @huggingface/tokenizers.
   * @param read (name) => Promise<Uint8Array>: a file of the bundle by its name, "onnx/model.onnx" for example.
   * @param options of the inference session, `{ intraOpNumThreads: 1 }` for example.
   */
  static async open({ ort, Tokenizer, read, options = {} }) {
    const json = async (name) => JSON.parse(new TextDecoder().decode(await read(name)));
    const settings = await json('bundle.json');
    const tokenizer = new Tokenizer(await json(settings.tokenizer), await json('tokenizer_config.json'));
    const model = await read(settings.model);
    const session = await ort.InferenceSession.create(model, options);
    return new Classifier(ort, settings, tokenizer, session, model.byteLength);
  }

  constructor(ort, settings, tokenizer, session, modelBytes) {
    Object.assign(this, { ort, settings, tokenizer, session, modelBytes });
  }

  /**
   * Answer one text, or one pair.
   *
   * @returns `{ label, score, scores }`; `{ labels, scores }` where a text may have several labels; `{ value }`
   *   where the answer is a number. `tokens` is the length of the input, `milliseconds` the time of it all.
   */
  async classify(text, pair = null) {
    const start = performance.now();
    const input = encode(this.tokenizer, this.settings, text, pair);
    const shape = [1, input.input_ids.length];
    const feeds = {};
    for (const name of this.session.inputNames) {
      feeds[name] = new this.ort.Tensor('int64', BigInt64Array.from(input[name], BigInt), shape);
    }
    const { logits } = await this.session.run(feeds);
    const answer = toAnswer(Array.from(logits.data), this.settings);
    return { ...answer, tokens: shape[1], milliseconds: performance.now() - start };
  }
}

/** Return the ids, mask and segments of a text or pair, cut to `max_length` as in training. */
export function encode(tokenizer, settings, text, pair) {
  if (pair === '') throw new Error('the second text of the pair is empty');
  const whole = tokenizer.encode(text, { text_pair: pair, return_token_type_ids: true });
  const types = whole.token_type_ids ?? whole.ids.map(() => 0);
  const over = whole.ids.length - settings.max_length;
  let kept = whole.ids.map((_, place) => place);
  if (over > 0) {
    // The tokenizer has put special tokens around the texts: find the texts' own tokens and drop from those.
    const first = plain(tokenizer, text);
    const second = pair === null ? [] : plain(tokenizer, pair);
    const budget = first.length + second.length - over;
    const lengths = pair === null ? [budget, 0] : share(first.length, second.length, budget);
    const starts = [find(whole.ids, first, 0)];
    starts.push(find(whole.ids, second, starts[0] + first.length));
    const left = settings.truncation_side === 'left';
    const dropped = new Set();
    [first, second].forEach((ids, i) => {
      const from = starts[i] + (left ? 0 : lengths[i]);
      for (let j = 0; j < ids.length - lengths[i]; j += 1) dropped.add(from + j);
    });
    kept = kept.filter((place) => !dropped.has(place));
  }
  return {
    input_ids: kept.map((place) => whole.ids[place]),
    attention_mask: kept.map(() => 1),
    token_type_ids: kept.map((place) => types[place]),
  };
}

/** Share `budget` tokens between two texts: the longer one is cut first. */
function share(first, second, budget) {
  const short = Math.min(first, second);
  const half = Math.floor(budget / 2);
  const lengths = budget - short >= short ? [short, budget - short] : [half, budget - half];
  return first > second ? lengths.reverse() : lengths;
}

function plain(tokenizer, text) {
  return tokenizer.encode(text, { add_special_tokens: false }).ids;
}

function find(ids, part, from) {
  for (let at = from; at + part.length <= ids.length; at += 1) {
    if (part.every((id, i) => ids[at + i] === id)) return at;
  }
  throw new Error('the text is too long, and its tokens change beside the special tokens');
}

function toAnswer(logits, { task, labels }) {
  if (task === 'regression') return { value: logits[0] };
  if (task === 'multi_label') {
    const scores = named(labels, logits.map((value) => 1 / (1 + Math.exp(-value))));
    return { labels: labels.filter((label) => scores[label] >= 0.5), scores };
  }
  const highest = Math.max(...logits);
  const powers = logits.map((value) => Math.exp(value - highest));
  const total = powers.reduce((sum, value) => sum + value, 0);
  const best = labels[logits.indexOf(highest)];
  const scores = named(labels, powers.map((value) => value / total));
  return { label: best, score: scores[best], scores };
}

function named(labels, values) {
  return Object.fromEntries(labels.map((label, i) => [label, values[i]]));
}
