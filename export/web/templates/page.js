"use strict";
// Runs model.json's file with LiteRT.js. Written by tfkd {{ version }}; every number is the file's own.

const TYPES = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };
const SHOWN = 10;
const find = (id) => document.getElementById(id);
// Not Math.max(...numbers): an engine takes only so many arguments.
const largest = (numbers) => numbers.reduce((a, b) => Math.max(a, b), -Infinity);

/** Returns an element with attributes and children, which may be texts. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function say(text, bad = false) {
  find("status").textContent = text;
  find("status").classList.toggle("bad", bad);
}

// Numbers: raw, as the user has them; real, as the model was trained on; steps, as the file has them.

/** Returns the steps of real numbers: rounded half away from zero, clipped. */
function quantized(values, tensor) {
  if (tensor.scale === null) return Array.from(values);
  const [least, most] = tensor.limits;
  return Array.from(values, (value) => {
    const scaled = value / tensor.scale;
    const step = Math.trunc(scaled + (scaled < 0 ? -0.5 : 0.5)) + tensor.zero_point;
    return Math.min(Math.max(step, least), most);
  });
}

/** Returns the real numbers that steps stand for. */
function dequantized(steps, tensor) {
  if (tensor.scale === null) return Array.from(steps);
  return Array.from(steps, (step) => Math.fround((step - tensor.zero_point) * tensor.scale));
}

/** Returns the steps that came out of the file as the real numbers they stand for. */
function stepsOf(real, tensor) {
  if (tensor.scale === null) return Array.from(real);
  return Array.from(real, (value) => Math.round(value / tensor.scale) + tensor.zero_point);
}

const normalized = (raw, { mean, std }) => {
  const value = (x, i) => Math.fround(
    Math.fround(Math.fround(x) - mean[i % mean.length]) / std[i % std.length]);
  return mean ? raw.map(value) : raw;
};
const denormalized = (real, { mean, std }) =>
  mean ? real.map((x, i) => Math.fround(x * std[i % std.length] + mean[i % mean.length])) : real;

/** The file in LiteRT.js; takes and gives steps, by name. */
class Network {
  constructor(about, compiled, Tensor) {
    Object.assign(this, { about, compiled, Tensor });
    this.reset();
  }

  /** Forgets what came before. */
  reset() {
    this.states = {};
    for (const { input } of this.about.states) {
      const tensor = this.about.inputs.find(({ name }) => name === input);
      const zeros = new Array(tensor.shape.reduce((a, b) => a * b, 1)).fill(0);
      this.states[input] = quantized(zeros, tensor);
    }
  }

  tensors(steps) {
    const made = {};
    for (const tensor of this.about.inputs) {
      const type = tensor.scale === null ? TYPES[tensor.dtype] : Float32Array;
      const values = dequantized(steps[tensor.name] ?? this.states[tensor.name], tensor);
      made[tensor.name] = new this.Tensor(type.from(values), tensor.shape);
    }
    return made;
  }

  async call(steps) {
    const tensors = this.tensors(steps);
    const results = await this.compiled.run(tensors);
    const made = {};
    for (const tensor of this.about.outputs) {
      made[tensor.name] = stepsOf(results[tensor.name].toTypedArray(), tensor);
    }
    for (const tensor of [...Object.values(tensors), ...Object.values(results)]) tensor.delete();
    return made;
  }

  /** Runs the file on an example and keeps the state that it leaves. */
  async predict(steps) {
    const made = await this.call(steps);
    for (const { input, output } of this.about.states) this.states[input] = made[output];
    return made;
  }

  /** Returns milliseconds of a call and how many calls they are the mean of. */
  async time(steps, least = 200, most = 500) {
    const tensors = this.tensors(steps);
    const run = async () => Object.values(await this.compiled.run(tensors)).forEach((t) => t.delete());
    for (let i = 0; i < 3; i++) await run();
    const start = performance.now();
    let calls = 0;
    while (calls < most && performance.now() - start < least) { await run(); calls++; }
    const took = (performance.now() - start) / calls;
    for (const tensor of Object.values(tensors)) tensor.delete();
    return [took, calls];
  }

  /** Returns {same, steps, real}: how far the golden example's answer is from Python's. */
  async golden() {
    const { inputs, outputs } = this.about.golden;
    const made = await this.call(inputs);
    const told = { same: true, steps: null, real: null };
    for (const tensor of this.about.outputs) {
      const want = outputs[tensor.name];
      const apart = largest(want.map((value, i) => Math.abs(value - made[tensor.name][i])));
      const unit = tensor.scale === null ? "real" : "steps";
      const allowed = tensor.scale === null ? 1e-4 * Math.max(1, largest(want.map(Math.abs))) : 1;
      told[unit] = Math.max(told[unit] ?? 0, apart);
      told.same = told.same && made[tensor.name].length === want.length && apart <= allowed;
    }
    return told;
  }
}

/** What the page shows of one input: numbers, and for an image a canvas and a file. */
class Field {
  constructor(tensor, changed) {
    Object.assign(this, { tensor, changed });
    this.count = tensor.shape.reduce((a, b) => a * b, 1);
    this.box = element("fieldset", {}, element("legend", {}, tensor.name));
    if (tensor.image) this.addImage();
    const about = `${this.count} numbers, shape ${tensor.shape.join(" × ")}, ${
      tensor.mean ? "raw; they are normalized here" : "as the model was trained on them"}`;
    this.text = element("textarea", { rows: tensor.image ? 4 : 6, spellcheck: "false" });
    this.box.append(element("label", {}, about, this.text));
  }

  addImage() {
    const [, height, width] = this.tensor.shape;
    this.canvas = element("canvas", { width, height, role: "img", "aria-label": "The image that goes in" });
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    const file = element("input", { type: "file", accept: "image/*" });
    file.addEventListener("change", () => file.files.length && this.load(file.files[0]));
    const clear = element("button", { type: "button" }, "Clear");
    clear.addEventListener("click", () => { this.blank(); this.read(); });
    const number = (value) => element("input", { type: "number", step: "any", value });
    [this.black, this.white] = this.tensor.range.map(number);
    for (const one of [this.black, this.white]) one.addEventListener("change", () => this.read());
    this.box.append(
      this.canvas,
      element("label", {}, "An image, cut to the middle (or draw above): ", file),
      element("div", { class: "pair" },
        element("label", {}, "black is ", this.black), element("label", {}, "white is ", this.white)),
      clear);
    this.draw();
  }

  blank() {
    this.context.fillStyle = "black";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  draw() {
    const { canvas, context } = this;
    let last = null;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width * canvas.width,
        (event.clientY - box.top) / box.height * canvas.height];
    };
    const line = (event) => {
      if (last === null) return;
      Object.assign(context, { strokeStyle: "white", lineCap: "round",
        lineWidth: Math.max(1, Math.min(canvas.width, canvas.height) / 9) });
      context.beginPath();
      context.moveTo(...last);
      last = place(event);
      context.lineTo(...last);
      context.stroke();
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      last = place(event);
      line(event);
    });
    canvas.addEventListener("pointermove", line);
    canvas.addEventListener("pointerup", () => { if (last) { last = null; this.read(); } });
    canvas.addEventListener("pointercancel", () => { last = null; });
  }

  async load(file) {
    let image;
    try {
      image = await createImageBitmap(file);
    } catch {
      return say(`${file.name} is no image that this browser reads.`, true);
    }
    const { width, height } = this.canvas;
    const scale = Math.max(width / image.width, height / image.height);
    const [w, h] = [image.width * scale, image.height * scale];
    this.blank();
    this.context.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
    this.read();
  }

  /** Takes the numbers from the canvas. */
  read() {
    const channels = this.tensor.shape[3], values = [];
    const [black, white] = [Number(this.black.value), Number(this.white.value)];
    const pixels = this.context.getImageData(0, 0, this.canvas.width, this.canvas.height).data;
    for (let i = 0; i < pixels.length; i += 4) {
      const grey = 0.299 * pixels[i] + 0.587 * pixels[i + 1] + 0.114 * pixels[i + 2];
      const parts = channels === 1 ? [grey] : [pixels[i], pixels[i + 1], pixels[i + 2]];
      values.push(...parts.map((part) => black + (white - black) * part / 255));
    }
    this.show(values);
    this.changed();
  }

  show(raw) {
    this.text.value = raw.map((x) => String(Number(x.toPrecision(7)))).join(" ");
  }

  /** Puts the numbers on the canvas. */
  paint(raw) {
    if (!this.canvas) return;
    const channels = this.tensor.shape[3];
    const [black, white] = [Number(this.black.value), Number(this.white.value)];
    const data = this.context.createImageData(this.canvas.width, this.canvas.height);
    for (let i = 0; i < data.data.length; i++) {
      const value = raw[Math.floor(i / 4) * channels + Math.min(i % 4, channels - 1)];
      data.data[i] = i % 4 === 3 ? 255 : (value - black) / (white - black) * 255;
    }
    this.context.putImageData(data, 0, 0);
  }

  /** Returns the numbers, or throws with what is wrong with them. */
  raw() {
    const words = this.text.value.split(/[\s,;]+/).filter(Boolean);
    const values = words.map(Number), { name, scale, dtype } = this.tensor;
    const wrong = words.find((_, i) => !Number.isFinite(values[i]));
    if (wrong !== undefined) throw new Error(`${name}: ${wrong.slice(0, 40)} is no number.`);
    if (values.length !== this.count) {
      throw new Error(`${name} takes ${this.count} numbers, got ${values.length}.`);
    }
    const unfit = scale === null && dtype !== "float32"
      ? values.find((x) => TYPES[dtype].of(x)[0] !== x) : undefined;
    if (unfit !== undefined) throw new Error(`${name} takes ${dtype}, got ${unfit}.`);
    return values;
  }
}

/** Returns which numbers to show: of classes the largest first, or the largest of each step or pixel. */
function ordered(real, labels) {
  const order = real.map((_, i) => i), count = labels ? labels.length : 1;
  if (count === real.length) return order.sort((a, b) => real[b] - real[a]);
  return Array.from({ length: real.length / count }, (_, place) =>
    order.slice(place * count, (place + 1) * count).reduce((a, b) => real[b] > real[a] ? b : a));
}

function table(tensor, real) {
  const order = ordered(real, tensor.labels), count = tensor.labels ? tensor.labels.length : 0;
  const places = count > 0 && count < real.length;
  const place = (i) => places ? `${Math.floor(i / count)}: ` : "";
  const name = (i) => count ? place(i) + tensor.labels[i % count] : String(i);
  const most = largest(real), least = Math.min(0, -largest(real.map((x) => -x)));
  const rows = order.slice(0, SHOWN).map((i) => {
    const part = most > least ? (real[i] - least) / (most - least) : 0;
    const bar = element("span", { class: "bar", style: `width: ${100 * part}%` });
    const head = element("th", { scope: "row" }, name(i), bar);
    return element("tr", {}, head, element("td", {}, String(Number(real[i].toPrecision(4)))));
  });
  const more = order.length > SHOWN ? `, ${SHOWN} of ${order.length}` : "";
  return element("table", {},
    element("caption", {}, tensor.name + more),
    element("thead", {}, element("tr", {},
      element("th", { scope: "col" }, count ? (places ? "place: class" : "class") : "number"),
      element("th", { scope: "col", style: "text-align: right" }, "value"))),
    element("tbody", {}, ...rows));
}

/** Makes the form, and runs the file whenever it is sent. */
function show(network) {
  const { about } = network;
  const carried = new Set(about.states.flatMap(({ input, output }) => [input, output]));
  const form = find("form");
  const fields = about.inputs.filter(({ name }) => !carried.has(name)).map((tensor) => {
    const field = new Field(tensor, () => form.requestSubmit());
    const raw = denormalized(dequantized(about.golden.inputs[tensor.name], tensor), tensor);
    field.show(raw);
    field.paint(raw);
    return field;
  });
  form.append(...fields.map(({ box }) => box), element("button", {}, "Run"));
  if (about.states.length) {
    const reset = element("button", { type: "button" }, "Start a new sequence");
    reset.addEventListener("click", () => { network.reset(); say("The state is zero again."); });
    form.append(reset);
  }
  let queue = Promise.resolve();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    queue = queue.then(() => answer(network, fields, carried)).catch((error) => say(error.message, true));
  });
  form.requestSubmit();
}

async function answer(network, fields, carried) {
  const steps = {};
  for (const field of fields) {
    const raw = field.raw();
    field.paint(raw);
    steps[field.tensor.name] = quantized(normalized(raw, field.tensor), field.tensor);
  }
  const before = { ...network.states };
  const made = await network.predict(steps);
  const shown = network.about.outputs.filter(({ name }) => !carried.has(name));
  find("answers").replaceChildren(...shown.map((tensor) => table(tensor, dequantized(made[tensor.name], tensor))));
  const [took, calls] = await network.time({ ...before, ...steps });
  find("latency").textContent =
    `${took < 1 ? took.toFixed(3) : took.toPrecision(3)} ms a call on one thread of the CPU, mean of ${calls} calls.`;
  say(network.about.states.length ? "Ready for the next step." : "Ready.");
}

/** Says how near the golden example's answer is. */
function within({ steps, real }) {
  const parts = [];
  if (steps === 0) parts.push("to the last step");
  if (steps > 0) parts.push(`within ${steps} ${steps === 1 ? "step" : "steps"} of the output's scale`);
  if (real !== null) parts.push(`within ${Number(real.toPrecision(2))}`);
  return parts.join(" and ");
}

async function start() {
  if (location.protocol === "file:") {
    return say("A browser opens these files from a server only: run  python -m http.server  in this folder.", true);
  }
  let litert;
  try {
    litert = await import("@litertjs/core");
  } catch {
    return say("LiteRT.js is not here: run  npm install  in this folder, and load this page again.", true);
  }
  try {
    const response = await fetch("model.json");
    const about = await response.json();
    await litert.loadLiteRt("./node_modules/@litertjs/core/wasm/");
    const compiled = await litert.loadAndCompile(about.file, { accelerator: "wasm" });
    const network = new Network(about, compiled, litert.Tensor);
    const told = await network.golden();
    find("golden").textContent = told.same
      ? `The golden example gives the same answer here as in Python, ${within(told)}.`
      : `The golden example gives another answer here than in Python, only ${within(told)}: do not trust this page.`;
    find("golden").classList.toggle("bad", !told.same);
    window.network = network;
    show(network);
  } catch (error) {
    say(`LiteRT.js can't run this file: ${error.message}`, true);
  }
}

start();
