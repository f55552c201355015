// The page of the service: chooses two photos or more, asks whether the first shows the person of
// the others, shows the answer.
// It loads nothing from elsewhere and keeps nothing but the chosen language.

const STRINGS = await (await fetch("/static/strings.json")).json();
const LANGUAGE_KEY = "kryptonite.language";
const SLOTS = ["a", "b"];
// Rules of thumb for the words beside the figures: below the first it is low, above the second high.
const QUALITY = {
  face_pixels: { bounds: [60, 112], digits: 0, unit: "facts.pixels" },
  sharpness: { bounds: [50, 200], digits: 0 },
  brightness: { bounds: [0.25, 0.8], digits: 2 },
  contrast: { bounds: [0.08, 0.3], digits: 2 },
};
const BRANCHES = ["recognition", "detector", "similarity", "differential_detector"];
// How a fusion joins its parts, where a sentence can say it.
const JOINED = {
  llr: "parts.joined.weaker",
  multinomial: "parts.joined.weaker",
  product: "parts.joined.weaker",
  calibrated_sum: "parts.joined.sum",
};
const SIGNS = { accepted: "M4 12.5 9.5 18 20 6.5", refused: "M5.5 5.5l13 13m0-13-13 13" };

const byId = (id) => document.getElementById(id);
const form = byId("compare");

const state = {
  language: rememberedLanguage(),
  photos: { a: null, b: null }, // {file, url, readable}
  further: [], // likewise: more photos of the person on the second one
  example: null, // the example that both photos are of
  info: null,
  examples: [], // with the files of both photos
  answer: null,
  error: null,
  request: null, // AbortController of the comparison under way
};

/** A refusal: its code, the service's sentence, the seconds to wait, the place of its photo. */
class Failure extends Error {
  constructor(code, message = "", wait = null, place = placeOf(message)) {
    super(message);
    this.code = code;
    this.wait = wait;
    this.place = place;
  }
}

// Words and figures

function rememberedLanguage() {
  let kept = null;
  try {
    kept = localStorage.getItem(LANGUAGE_KEY);
  } catch {
    // Storage may be forbidden; the browser's language is then the best guess on every visit.
  }
  if (kept in STRINGS) return kept;
  return navigator.language.toLowerCase().startsWith("ru") ? "ru" : "en";
}

function has(key) {
  return key in STRINGS[state.language];
}

function text(key, values = {}) {
  return STRINGS[state.language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function number(value, digits) {
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  const shown = Math.abs(value) < 0.5 * 10 ** -digits ? 0 : value; // no minus zero
  return new Intl.NumberFormat(state.language, options).format(shown).replace("-", "−");
}

function plain(value) {
  return new Intl.NumberFormat(state.language, { maximumFractionDigits: 2 }).format(value);
}

function signed(value) {
  const shown = number(value, 2);
  return value >= 0.005 ? `+${shown}` : shown;
}

function percent(value, digits = 0) {
  const options = { style: "percent", maximumFractionDigits: digits };
  return new Intl.NumberFormat(state.language, options).format(value);
}

/** The smallest of 1, 2, 5, 10, 20, … that is at least as large as every value's size. */
function bound(values) {
  const largest = Math.max(...values.map(Math.abs), 1);
  const power = 10 ** Math.floor(Math.log10(largest));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= largest);
}

// Elements

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes = {}, label = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = label;
  return made;
}

/** Tells screen readers; `hidden` where the page shows the same elsewhere. */
function announce(message, { hidden = false } = {}) {
  byId("status").classList.toggle("visually-hidden", hidden);
  byId("status").textContent = message;
}

// The two photos

function makeSlot(slot) {
  const panel = byId("photo").content.cloneNode(true).firstElementChild;
  const input = panel.querySelector("input");
  panel.id = `panel-${slot}`;
  panel.querySelector(".name").id = `name-${slot}`;
  panel.setAttribute("aria-labelledby", `name-${slot}`);
  input.id = `photo-${slot}`;
  panel.querySelector("label").htmlFor = input.id;
  panel.querySelector(".file-name").id = `file-${slot}`;
  input.setAttribute("aria-describedby", `file-${slot}`);
  input.addEventListener("change", () => {
    if (input.files.length) choose(slot, input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  panel.querySelector("button").addEventListener("click", () => {
    choose(slot, null);
    input.focus();
  });
  panel.addEventListener("dragover", () => panel.classList.add("over"));
  panel.addEventListener("dragleave", () => panel.classList.remove("over"));
  panel.addEventListener("drop", (event) => {
    panel.classList.remove("over");
    chooseAll([...event.dataTransfer.files], slot);
    event.stopPropagation();
    event.preventDefault();
  });
  byId("photos").append(panel);
}

/** Puts files into the frames, the first into `slot`. */
function chooseAll(files, slot) {
  const order = slot === "a" ? SLOTS : [...SLOTS].reverse();
  files.slice(0, SLOTS.length).forEach((file, place) => choose(order[place], file));
}

/** How many further photos the service takes beside the second one. */
function mostFurther() {
  return (state.info?.references?.most ?? 1) - 1;
}

/** Every photo that is chosen, in the order of the service's answer. */
function chosen() {
  return [...SLOTS.map((slot) => state.photos[slot]), ...state.further].filter(Boolean);
}

function photoName(place) {
  return place < SLOTS.length
    ? text(`photo.${SLOTS[place]}`)
    : text("photo.further", { number: place + 1 });
}

function addFurther(files) {
  if (!files.length) return;
  const taken = files.slice(0, mostFurther() - state.further.length);
  state.further.push(
    ...taken.map((file) => ({ file, url: URL.createObjectURL(file), readable: true })),
  );
  state.example = null;
  forgetAnswer();
  const values = { added: taken.length, left: files.length - taken.length };
  const happened = values.left ? "status.added_some" : "status.added";
  announce(text(happened, values), { hidden: !values.left });
}

function removeFurther(place) {
  const name = photoName(SLOTS.length + place);
  URL.revokeObjectURL(state.further[place].url);
  state.further.splice(place, 1);
  forgetAnswer();
  announce(text("status.removed_further", { name }), { hidden: true });
  const next = byId("more-list").children[Math.min(place, state.further.length - 1)];
  (next?.querySelector("button") ?? byId("more-input")).focus();
}

function dropFurther() {
  for (const photo of state.further) URL.revokeObjectURL(photo.url);
  state.further = [];
}

function showFurther() {
  const most = mostFurther();
  byId("more").hidden = most < 1;
  byId("more-input").disabled = state.further.length >= most;
  byId("more-count").textContent = text("more.count", { count: state.further.length, most });
  byId("more-list").hidden = !state.further.length;
  byId("more-list").replaceChildren(
    ...state.further.map((photo, place) => {
      const item = byId("further").content.cloneNode(true).firstElementChild;
      const name = photoName(SLOTS.length + place);
      const remove = item.querySelector("button");
      item.querySelector(".name").textContent = name;
      item.querySelector(".file-name").textContent = photo.file.name;
      remove.textContent = text("photo.remove");
      remove.setAttribute("aria-label", text("photo.remove_further", { name }));
      remove.addEventListener("click", () => removeFurther(place));
      showImage(item, photo, SLOTS.length + place);
      return item;
    }),
  );
}

/** Shows a photo in its frame, with the face that the service found, or why there is no preview. */
function showImage(panel, photo, place) {
  const image = panel.querySelector("img");
  image.onerror = () => {
    if (!photo) return;
    photo.readable = false;
    showPhotos();
  };
  image.hidden = !photo?.readable;
  if (photo?.readable && image.src !== photo.url) image.src = photo.url;
  if (!photo) image.removeAttribute("src");
  const empty = panel.querySelector(".empty");
  empty.hidden = Boolean(photo?.readable);
  empty.textContent = text(photo ? "photo.no_preview" : "photo.empty");
  const found = state.answer?.photos[place];
  drawFace(panel.querySelector(".overlay"), photo?.readable && isFound(found) ? found : null);
}

/** The frame that a file without a place belongs to: an empty one before a filled one. */
function nextSlot() {
  const focused = SLOTS.filter((slot) => byId(`panel-${slot}`).contains(document.activeElement));
  const inOrder = [...focused, ...SLOTS];
  return inOrder.find((slot) => !state.photos[slot]) ?? inOrder[0];
}

function choose(slot, file) {
  if (state.photos[slot]) URL.revokeObjectURL(state.photos[slot].url);
  state.photos[slot] = file && { file, url: URL.createObjectURL(file), readable: true };
  state.example = null;
  forgetAnswer();
  const happened = file ? "chosen" : "removed";
  announce(text(`status.${happened}_${slot}`, { name: file?.name }), { hidden: true });
}

/** Drops what was said about other photos, and stops asking about them. */
function forgetAnswer() {
  state.request?.abort();
  state.answer = state.error = null;
  announce("");
  showPhotos();
  showThresholds();
  showAnswer();
  showError();
}

function showPhotos() {
  for (const slot of SLOTS) {
    const photo = state.photos[slot];
    const panel = byId(`panel-${slot}`);
    panel.querySelector(".name").textContent = text(`photo.${slot}`);
    panel.classList.toggle("filled", Boolean(photo));
    showImage(panel, photo, SLOTS.indexOf(slot));
    const remove = panel.querySelector("button");
    remove.hidden = !photo;
    remove.textContent = text("photo.remove");
    remove.setAttribute("aria-label", text(`photo.remove_${slot}`));
    panel.querySelector(".file-name").textContent = photo
      ? `${photo.file.name}, ${fileSize(photo.file.size)}`
      : "";
  }
  showFurther();
}

function fileSize(bytes) {
  return bytes < 1e6
    ? text("photo.kilobytes", { size: number(bytes / 1e3, bytes < 1e4 ? 1 : 0) })
    : text("photo.megabytes", { size: number(bytes / 1e6, 1) });
}

function isFound(photo) {
  return Boolean(photo?.status.startsWith("found"));
}

/**
 * Draws the landmarks and the box, as far as it lies in the photo; each line twice, so that it
 * shows on any ground.
 */
function drawFace(overlay, photo) {
  overlay.replaceChildren();
  if (!photo) return;
  const { width, height } = photo;
  overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const within = (value, end) => Math.min(Math.max(value, 0.005 * end), 0.995 * end);
  const [left, right] = [photo.box[0], photo.box[2]].map((x) => within(x, width));
  const [top, bottom] = [photo.box[1], photo.box[3]].map((y) => within(y, height));
  const box = { x: left, y: top, width: right - left, height: bottom - top };
  for (const kind of ["halo", "line"]) {
    overlay.append(drawn("rect", { ...box, class: kind }));
    for (const [x, y] of photo.landmarks) {
      // A round cap on a line without length is a dot of a fixed size on the screen.
      overlay.append(drawn("path", { d: `M${x} ${y}h0`, class: `dot ${kind}` }));
    }
  }
}

// The service

async function call(path, options = {}) {
  const key = byId("key").value;
  let response;
  try {
    response = await fetch(path, { ...options, headers: key ? { "X-API-Key": key } : {} });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Failure("no_server");
  }
  if (response.ok) return response;
  const problem = (await read(response, options.signal)) ?? {};
  if (response.status === 401) byId("key-field").hidden = byId("key-hint").hidden = false;
  throw new Failure(
    problem.code ?? "",
    problem.message ?? `${response.status} ${response.statusText}`,
    response.headers.get("Retry-After"),
  );
}

/** The JSON of an answer, null if it is none; throws if the request was aborted meanwhile. */
async function read(response, signal) {
  const value = await response.json().catch(() => null);
  signal?.throwIfAborted();
  return value;
}

/** Asks for the thresholds and the examples; with a key once one is needed. */
async function loadService() {
  try {
    state.info = await read(await call("/v1/info"));
    state.examples = await Promise.all((await read(await call("/v1/examples"))).map(loadExample));
    if (state.error?.code === "unauthorized") state.error = null;
    showError();
  } catch (error) {
    fail(error);
  }
  showFurther();
  showThresholds();
  showExamples();
  showRun();
}

async function loadExample(example) {
  const files = {};
  for (const slot of SLOTS) {
    const photo = await (await call(example[`photo_${slot}`])).blob();
    files[slot] = new File([photo], `${example.name}-${slot}.jpg`, { type: photo.type });
  }
  const urls = SLOTS.map((slot) => URL.createObjectURL(files[slot]));
  return { ...example, files, urls };
}

/** The chosen photos as a form, with the name of a threshold. */
function question(threshold) {
  const body = new FormData();
  const [first, second] = state.further.length ? ["probe", "references"] : ["photo_a", "photo_b"];
  chosen().forEach(({ file }, place) => body.append(place ? second : first, file));
  body.append("threshold", threshold);
  return body;
}

async function compare({ moveFocus }) {
  state.request?.abort();
  state.error = null;
  showError();
  const missing = SLOTS.filter((slot) => !state.photos[slot]);
  if (missing.length) {
    byId(`photo-${missing[0]}`).focus();
    fail(new Failure(missing.length > 1 ? "missing_photos" : `missing_photo_${missing[0]}`));
    return;
  }
  const request = new AbortController();
  state.request = request;
  announce(text("status.busy"));
  byId("answer").setAttribute("aria-busy", "true");
  try {
    checkSizes();
    const several = state.further.length > 0;
    const body = question(byId("threshold").value || "stored");
    body.append("crops", "true");
    if (!several) body.append("explain", "true");
    const path = several ? "/v1/verify-references" : "/v1/verify";
    const response = await call(path, { method: "POST", body, signal: request.signal });
    state.answer = await read(response, request.signal);
    if (!state.answer) throw new Failure("unreadable_answer");
    showPhotos();
    showAnswer();
    const spoken = text("status.answer", { title: verdict(), score: scoreText() });
    announce(spoken, { hidden: true });
    if (moveFocus) focusAnswer();
  } catch (error) {
    if (error.name === "AbortError") return;
    forgetAnswer();
    fail(error);
  } finally {
    if (state.request === request) byId("answer").removeAttribute("aria-busy");
  }
}

/** Saves why the pair was accepted or refused, as the service writes it. */
async function saveSheet() {
  const tell = (message) => {
    byId("sheet-status").textContent = message;
    announce(message, { hidden: true });
  };
  tell(text("sheet.busy"));
  try {
    const body = question(state.answer.threshold.name);
    const response = await call("/v1/explain", { method: "POST", body });
    const sheet = await response.blob().catch(() => Promise.reject(new Failure("no_server")));
    const url = URL.createObjectURL(sheet);
    element("a", { href: url, download: "explanation.html" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser reads it after the click
    tell(text("sheet.done"));
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    tell(errorText(error));
  }
}

/** Refuses too large files here: a server that stops reading looks like one that is gone. */
function checkSizes() {
  const limits = state.info?.limits;
  if (!limits) return;
  const sizes = chosen().map(({ file }) => file.size);
  const place = sizes.findIndex((size) => size > limits.bytes_per_photo);
  if (place >= 0) throw new Failure("image_too_large", "", null, place);
  // The form around them takes some bytes, too.
  const together = sizes.reduce((sum, size) => sum + size + 1000, 0);
  if (together > limits.bytes_per_request) throw new Failure("body_too_large");
}

/** The place of the photo that a sentence of the service begins with, if it does. */
function placeOf(message) {
  const [, pair, probe, reference] =
    /^(?:photo_([ab])|(probe)|references\[(\d+)\]):/.exec(message) ?? [];
  if (pair) return SLOTS.indexOf(pair);
  if (probe) return 0;
  return reference === undefined ? null : 1 + Number(reference);
}

function fail(error) {
  if (!(error instanceof Failure)) throw error;
  state.error = error;
  announce("");
  showError();
  if (error.code === "unauthorized") byId("key").focus();
}

function focusAnswer() {
  const title = byId("answer-title");
  title.focus({ preventScroll: true });
  if (title.getBoundingClientRect().top > innerHeight / 2) title.scrollIntoView();
}

// What is shown

function showError() {
  const { error } = state;
  byId("error").replaceChildren();
  byId("key").setAttribute("aria-invalid", String(error?.code === "unauthorized"));
  if (!error) return;
  byId("error").append(element("p", {}, errorText(error)));
  if (error.wait) {
    byId("error").append(element("p", {}, text("error.retry", { seconds: error.wait })));
  }
}

function errorText({ code, message, place }) {
  if (!has(`error.${code}`)) return text("error.unknown", { message });
  const limits = state.info?.limits;
  const told = text(`error.${code}`, {
    megabytes: limits ? plain(limits.bytes_per_photo / 1e6) : "?",
    megapixels: limits ? plain(limits.pixels_per_photo / 1e6) : "?",
    side: limits ? plain(limits.pixels_per_side) : "?",
  });
  return place === null ? told : text("error.of_photo", { photo: photoName(place), text: told });
}

function thresholdName({ name, value }) {
  const several = state.further.length > 0; // the value then depends on the faces that are found
  const shown = several ? "" : ` (${number(value, 2)})`;
  if (name === "stored") return text("threshold.stored", { value: shown });
  const rate = /^fmr=(.+)$/.exec(name)?.[1];
  if (rate) return text("threshold.fmr", { rate: percent(Number(rate), 4), value: shown });
  return text("threshold.other", { name, value: shown });
}

/** Whether a threshold holds for as many photos as are chosen. */
function isOffered({ name }) {
  return !state.further.length || state.info.references.thresholds.includes(name);
}

function showThresholds() {
  const select = byId("threshold");
  const kept = select.value || "stored";
  select.replaceChildren(
    ...(state.info?.thresholds ?? []).map((threshold) =>
      element(
        "option",
        { value: threshold.name, ...(isOffered(threshold) ? {} : { disabled: "" }) },
        thresholdName(threshold),
      ),
    ),
  );
  if (!state.info) select.append(element("option", { value: "stored" }, text("threshold.unknown")));
  select.value = kept;
}

function species(example) {
  return has(`species.${example.species}`) ? text(`species.${example.species}`) : example.species;
}

function showExamples() {
  byId("examples").hidden = !state.examples.length;
  byId("example-list").replaceChildren(
    ...state.examples.map((example, place) => {
      const kind = text(`example.${example.kind}`, { species: species(example) });
      const label = `${place + 1}. ${kind}`;
      const images = example.urls.map((url) => element("img", { src: url, alt: "" }));
      const button = element("button", { type: "button" }, ...images, element("span", {}, label));
      button.addEventListener("click", () => {
        dropFurther();
        for (const slot of SLOTS) choose(slot, example.files[slot]);
        state.example = example;
        compare({ moveFocus: true });
      });
      return element("li", {}, button);
    }),
  );
}

function showRun() {
  const { info } = state;
  byId("run").textContent = info ? text("run", { name: `${info.run} (Kryptonite ${info.version})` }) : "";
}

/** Words for the answer's code; of several references, where they differ, those for them. */
function inWords(kind, otherwise) {
  const { code, photos } = state.answer;
  const keys = [`${kind}.${code}`];
  if (photos.length > SLOTS.length) keys.unshift(`several.${kind}.${code}`);
  const key = keys.find(has);
  return key ? text(key) : otherwise;
}

function verdict() {
  return inWords("code", state.answer.reason);
}

/** Whether there are faces to compare: the first photo's and one of the others'. */
function isComparable([first, ...others]) {
  return isFound(first) && others.some(isFound);
}

function scoreText() {
  const { accepted, score, threshold } = state.answer;
  const key = score === null ? "none" : accepted ? "above" : "below";
  const shown = score === null ? "" : number(score, 2);
  return text(`score.${key}`, { score: shown, threshold: number(threshold.value, 2) });
}

function showAnswer() {
  const { answer, example } = state;
  byId("answer-empty").hidden = Boolean(answer);
  byId("answer-body").hidden = !answer;
  if (!answer) return;
  const tone = answer.accepted ? "accepted" : "refused";
  byId("verdict").className = `verdict ${tone}`;
  byId("verdict-sign").setAttribute("d", SIGNS[tone]);
  byId("verdict-title").textContent = verdict();
  byId("verdict-why").textContent = inWords("why", "");
  byId("truth").hidden = !example;
  if (example) {
    const right = answer.accepted === (example.kind === "same");
    const told = text(`truth.${example.kind}`, { species: species(example) });
    const judged = element("strong", {}, text(right ? "truth.right" : "truth.wrong"));
    byId("truth").replaceChildren(`${told} `, judged);
  }
  showCompared(answer.photos.slice(1));
  byId("score-text").textContent = scoreText();
  drawScale(byId("scale"), answer.score, answer.threshold.value);
  showWeight(answer);
  showParts(answer);
  showFacts(answer.photos);
  byId("time").textContent = text("time", { seconds: number(answer.seconds, 2) });
}

/** Says how many photos of the person took part, where there are several. */
function showCompared(references) {
  byId("compared").hidden = references.length < 2;
  const used = references.filter(isFound).length;
  const left = references.length - used;
  byId("compared").textContent = text(left ? "compared.some" : "compared.all", { used, left });
}

/** Says how strong the evidence is and what lowered the score, of pairs whose faces were found. */
function showWeight({ accepted, explanation }) {
  const { branch, photo, llr, degree } = explanation ?? {};
  const hasRatio = Boolean(degree);
  byId("weight").hidden = !hasRatio && !branch && !photo;
  byId("support").hidden = byId("support-scale").hidden = !hasRatio;
  const said = hasRatio ? [supportText(llr, degree)] : [];
  // The threshold asks for more than the words do, or for less.
  if (llr > 0 && !accepted) said.push(text("weight.asks_more"));
  if (llr < 0 && accepted) said.push(text("weight.asks_less"));
  byId("support").textContent = said.join(" ");
  const told = [];
  if (branch) told.push(text("weight.branch", { branch: text(`branch.${branch}`) }));
  if (photo) told.push(text("weight.photo", { photo: text(`photo.${photo.at(-1)}`) }));
  byId("lowered").textContent = told.join(" ");
  byId("sheet").hidden = !explanation;
  byId("sheet-status").textContent = "";
}

function supportText(llr, degree) {
  const options = { maximumSignificantDigits: 2 };
  const size = new Intl.NumberFormat(state.language, options).format(Math.exp(Math.abs(llr)));
  const ratio = llr < 0 ? `1/${size}` : size;
  const side = degree === "none" ? "neither" : llr > 0 ? "genuine" : "otherwise";
  return text(`weight.${side}`, { degree: text(`degree.${degree}`), ratio });
}

/** Draws the score and the threshold on one axis; positions are percentages of its width. */
function drawScale(scale, score, threshold) {
  const end = bound([score ?? 0, threshold]);
  const share = (value) => 3 + (94 * (value + end)) / (2 * end);
  const at = (value) => `${share(value)}%`;
  const anchor = (value) =>
    share(value) < 20 ? "start" : share(value) > 80 ? "end" : "middle";
  const track = { y: 24, height: 14 };
  const limit = share(threshold);
  scale.replaceChildren(
    drawn("rect", { ...track, x: "3%", width: `${limit - 3}%`, class: "below" }),
    drawn("rect", { ...track, x: at(threshold), width: `${97 - limit}%`, class: "above" }),
  );
  for (const tick of [-end, -end / 2, 0, end / 2, end]) {
    const label = number(tick, Number.isInteger(tick) ? 0 : 1);
    scale.append(
      drawn("line", { x1: at(tick), x2: at(tick), y1: 38, y2: 43, class: "tick" }),
      drawn("text", { x: at(tick), y: 76, "text-anchor": anchor(tick), class: "soft" }, label),
    );
  }
  const line = { x1: at(threshold), x2: at(threshold), y1: 19, y2: 43 };
  const limitLabel = text("scale.threshold", { value: number(threshold, 2) });
  scale.append(
    drawn("line", { ...line, class: "limit" }),
    drawn("text", { x: at(threshold), y: 13, "text-anchor": anchor(threshold) }, limitLabel),
    drawn("text", { x: "3%", y: 96, class: "soft" }, `◂ ${text("scale.refused")}`),
    drawn(
      "text",
      { x: "97%", y: 96, "text-anchor": "end", class: "soft" },
      `${text("scale.accepted")} ▸`,
    ),
  );
  if (score === null) return;
  const label = text("scale.score", { value: number(score, 2) });
  scale.append(
    drawn("circle", { cx: at(score), cy: 31, r: 7, class: "score" }),
    drawn("text", { x: at(score), y: 58, "text-anchor": anchor(score), class: "strong" }, label),
  );
}

function showParts({ parts, similarity, comparison, photos, explanation }) {
  byId("parts-body").hidden = !parts;
  byId("parts-none").hidden = Boolean(parts);
  byId("parts-none").textContent = text(isComparable(photos) ? "parts.none" : "parts.no_face");
  if (!parts) return; // else there are faces to compare
  const end = bound(Object.values(parts));
  const [first, ...others] = photos.filter(isFound).map((photo) => photo.synthetic_probability);
  const a = percent(first);
  const [low, high] = [Math.min(...others), Math.max(...others)].map((value) => percent(value));
  const details = {
    recognition: text("parts.similarity", { value: number(similarity, 2) }),
    detector:
      photos.length > SLOTS.length
        ? text("parts.synthetic_several", { a, low, high })
        : text("parts.synthetic", { a, b: low }),
    differential_detector: "",
  };
  const joined = JOINED[state.info?.fusion];
  byId("parts-joined").textContent = joined ? text(joined) : "";
  // Not every fusion weighs the similarity as a sign of forgery, and not every run has a
  // differential detector: the service then gives exactly 0.
  const shown = BRANCHES.filter((branch) => branch !== "similarity" || parts.similarity);
  byId("parts").replaceChildren(
    ...shown.map((branch) => {
      const name = element("th", { scope: "row" }, text(`branch.${branch}`));
      const value = parts[branch];
      if (branch === "differential_detector" && comparison === 0) {
        const absent = element("td", { colspan: 2, class: "soft" }, text("parts.absent"));
        return element("tr", {}, name, absent);
      }
      if (details[branch]) name.append(element("small", {}, details[branch]));
      const direction = value >= 0.005 ? "for" : value <= -0.005 ? "against" : "neutral";
      return element(
        "tr",
        branch === explanation?.branch ? { class: "lowered" } : {},
        name,
        element("td", { class: "number" }, signed(value)),
        element("td", { class: "bar" }, text(`parts.${direction}`), bar(value, end, direction)),
      );
    }),
  );
}

function bar(value, end, direction) {
  const made = drawn("svg", { "aria-hidden": "true" });
  const length = (50 * Math.abs(value)) / end;
  const start = value < 0 ? 50 - length : 50;
  made.append(
    drawn("rect", { x: "0", y: 5, width: "100%", height: 10, class: "ground" }),
    drawn("rect", { x: `${start}%`, y: 5, width: `${length}%`, height: 10, class: direction }),
    drawn("line", { x1: "50%", x2: "50%", y1: 1, y2: 19, class: "zero" }),
  );
  return made;
}

/** One table for every two photos, so that they fit a narrow screen. */
function showFacts(photos) {
  const tables = [];
  for (let place = 0; place < photos.length; place += SLOTS.length) {
    tables.push(factsTable(photos.slice(place, place + SLOTS.length), place));
  }
  byId("facts").replaceChildren(...tables);
}

function factsTable(photos, place) {
  const synthetic = (photo) =>
    isFound(photo) ? percent(photo.synthetic_probability) : text("facts.none");
  const rows = [
    ["facts.crop", (photo, column) => cropOf(photo, place + column)],
    ["facts.status", (photo) => text(faceStatus(photo))],
    ["facts.synthetic", synthetic],
    ...Object.keys(QUALITY).map((fact) => [`facts.${fact}`, (photo) => qualityOf(photo, fact)]),
    ["facts.size", (photo) => text("facts.dimensions", photo)],
  ];
  const names = photos.map((_, column) =>
    element("th", { scope: "col" }, photoName(place + column)),
  );
  // A last photo alone keeps to its column.
  const padding = () => (photos.length < SLOTS.length ? [element("td")] : []);
  const body = rows.map(([key, cellOf]) => {
    const cells = photos.map((photo, column) => element("td", {}, cellOf(photo, column)));
    return element("tr", {}, element("th", { scope: "row" }, text(key)), ...cells, ...padding());
  });
  const head = element("tr", {}, element("td"), ...names, ...padding());
  return element(
    "table",
    { class: "facts" },
    element("thead", {}, head),
    element("tbody", {}, ...body),
  );
}

function faceStatus(photo) {
  if (!isFound(photo)) return "facts.missing";
  return photo.status === "found" ? "facts.found" : "facts.retried";
}

function cropOf(photo, place) {
  if (!isFound(photo) || !photo.crop) return text("facts.none");
  const alt = text("facts.crop_alt", { photo: photoName(place) });
  return element("img", { src: photo.crop, alt, class: "crop" });
}

function qualityOf(photo, fact) {
  const value = isFound(photo) ? photo.quality?.[fact] : null;
  if (value === null || value === undefined) return text("facts.none");
  const { bounds, digits, unit } = QUALITY[fact];
  const [low, high] = bounds;
  const level = value < low ? "low" : value < high ? "middle" : "high";
  const shown = unit ? text(unit, { value: number(value, digits) }) : number(value, digits);
  return text("facts.with_word", { value: shown, word: text(`word.${fact}.${level}`) });
}

function showAll() {
  document.documentElement.lang = state.language;
  document.title = text("document.title");
  for (const each of document.querySelectorAll("[data-text]")) {
    each.textContent = text(each.dataset.text);
  }
  for (const each of document.querySelectorAll("[data-label]")) {
    each.setAttribute("aria-label", text(each.dataset.label));
  }
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === state.language));
  }
  announce("");
  showPhotos();
  showThresholds();
  showExamples();
  showRun();
  showError();
  showAnswer();
}

// What the user does

SLOTS.forEach(makeSlot);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  compare({ moveFocus: true });
});
byId("more-input").addEventListener("change", ({ target }) => {
  addFurther([...target.files]);
  target.value = "";
});
byId("more").addEventListener("dragover", () => byId("more").classList.add("over"));
byId("more").addEventListener("dragleave", () => byId("more").classList.remove("over"));
byId("more").addEventListener("drop", (event) => {
  byId("more").classList.remove("over");
  addFurther([...event.dataTransfer.files]);
  event.stopPropagation();
  event.preventDefault();
});
byId("threshold").addEventListener("change", () => {
  if (state.answer || byId("answer").ariaBusy) compare({ moveFocus: false });
});
byId("sheet-save").addEventListener("click", saveSheet);
byId("key").addEventListener("change", loadService);
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    state.language = button.dataset.language;
    try {
      localStorage.setItem(LANGUAGE_KEY, state.language);
    } catch {
      // The choice then holds until the page is closed.
    }
    showAll();
  });
}
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (!files.length) return;
  event.preventDefault();
  chooseAll(files, nextSlot());
});
// A photo that misses a frame must not replace the page.
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  chooseAll([...event.dataTransfer.files], nextSlot());
});

showAll();
await loadService();
