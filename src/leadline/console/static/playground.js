// The playground: what is asked goes to the server as any program's request, and comes back piece by piece. The
// conversation is kept in this tab alone.
import { announce, copyText } from "./app.js";
import { addPicture, clone, draw, drawPiece, shown } from "./playground-messages.js";
import { Pictures } from "./playground-pictures.js";
import { chosen, prepareSettings, settings } from "./playground-settings.js";
import { coloured, element, meter } from "./playground-text.js";

const known = JSON.parse(document.getElementById("known").textContent);
const KEPT = `playground ${known.owner}`;
const ANNOUNCED_CHARACTERS = 500;
// How often the charge of a stopped answer is asked for, and how long it waits in between.
const CHARGE_TRIES = 8;
const CHARGE_MILLISECONDS = 250;
const NEAR_THE_END_PIXELS = 120;

const [talk, list, starters, composer, prompt, send, stop, clear] = [
  "talk", "messages", "starters", "composer", "prompt", "send", "stop", "clear",
].map((id) => document.getElementById(id));
let messages = [];
let running = null;

// ---- The conversation ----

function add(message) {
  messages.push(message);
  list.append(shown(message, act));
  settle();
  talk.scrollTop = talk.scrollHeight;
  return message;
}

function cut(from) {
  for (const message of messages.splice(from)) message.element.remove();
  settle();
}

// What depends on whether there is a conversation, and on whether an answer is coming.
function settle() {
  starters.hidden = messages.length > 0;
  clear.disabled = !messages.length || running !== null;
  [send.hidden, stop.hidden] = [running !== null, running === null];
  for (const button of list.querySelectorAll("[data-act]:not([data-act=copy])")) button.disabled = running !== null;
}

function keep() {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(messages, (name, value) => (name === "element" ? undefined : value)));
  } catch {
    // Large pictures have no room there: the conversation then lasts as long as the page.
    sessionStorage.removeItem(KEPT);
  }
}

function recall() {
  try {
    for (const message of JSON.parse(sessionStorage.getItem(KEPT) ?? "[]")) {
      if (message.state) message.state = "stopped";
      add(message);
    }
  } catch {
    sessionStorage.removeItem(KEPT);
  }
}

// The turns as the server takes them. An answer of which nothing came was never said.
function turns(pictureOf = (url) => url) {
  return messages
    .filter((message) => message.text || message.pictures?.length)
    .map(({ role, text, pictures = [] }) => ({ role, text, images: pictures.map((picture) => pictureOf(picture.url)) }));
}

// ---- Asking ----

async function ask() {
  const asked = settings();
  if (!asked || running) return;
  const body = JSON.stringify({ ...asked, turns: turns() });
  running = new AbortController();
  const reply = add({ role: "assistant", model: asked.model, text: "", state: "waiting", json: asked.json });
  try {
    const response = await fetch("/playground/chat", posted(body, running.signal));
    if (!response.headers.get("content-type")?.startsWith("application/x-ndjson")) throw await refusalOf(response);
    for await (const line of lines(response.body)) take(reply, line);
    if (reply.state) throw { refused: { title: "The answer broke off", text: "The connection to the server ended." } };
  } catch (error) {
    const stopped = running.signal.aborted;
    reply.state = stopped ? "stopped" : undefined;
    if (!stopped) reply.refused = error.refused ?? { title: "The server was not reached", text: "Is it running, and are you online?" };
  }
  running = null;
  if (document.activeElement === stop || document.activeElement === document.body) prompt.focus();
  draw(reply);
  settle();
  say(reply);
  keep();
  if (!reply.stats && reply.request) await lookUp(reply);
}

function posted(body, signal) {
  return { method: "POST", headers: { "content-type": "application/json" }, body, signal, redirect: "manual" };
}

async function refusalOf(response) {
  if (response.type === "opaqueredirect") {
    return { refused: { title: "You are signed out", text: "The conversation stays in this tab.", link: ["/login?next=/playground", "Sign in"] } };
  }
  try {
    return await response.json();
  } catch {
    return { refused: { title: "That did not work", text: `The server answered ${response.status}. Reload this page, then try again.` } };
  }
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const pieces = (rest + value).split("\n");
    rest = pieces.pop();
    for (const piece of pieces) if (piece) yield JSON.parse(piece);
  }
}

function take(reply, line) {
  const follows = talk.scrollHeight - talk.scrollTop - talk.clientHeight < NEAR_THE_END_PIXELS;
  if (line.started) {
    reply.request = line.started.request;
    reply.model = line.started.model;
  } else if (line.text !== undefined) {
    reply.text += line.text;
    if (reply.state === "streaming") drawPiece(reply, line.text);
    else begin(reply);
  } else if (line.thought !== undefined) {
    reply.thought = (reply.thought ?? "") + line.thought;
    begin(reply);
  } else if (line.end) {
    end(reply, line.end);
  } else if (line.error) {
    reply.state = undefined;
    reply.refused = line.error;
  }
  if (follows) talk.scrollTop = talk.scrollHeight;
}

function begin(reply) {
  reply.state = "streaming";
  draw(reply);
}

function end(reply, told) {
  reply.state = undefined;
  reply.stats = told;
  reply.content = told.content;
  delete told.content;
  standing(told);
  draw(reply);
}

// Once, not word by word.
function say(reply) {
  const text = reply.text.slice(0, ANNOUNCED_CHARACTERS);
  if (reply.refused) announce(`${reply.refused.title}. ${reply.refused.text}`);
  else announce(reply.state === "stopped" ? "Stopped." : `${reply.model} answered: ${text}`);
}

// An answer that was cut comes without its end: what it cost is in the log, and its form is made anew.
async function lookUp(reply) {
  if (reply.text) {
    const told = await fetch("/playground/text", posted(JSON.stringify({ text: reply.text, json: reply.json }))).then((answer) => answer.json()).catch(() => ({}));
    if (told.content) reply.content = told.content;
    draw(reply);
  }
  for (let tries = 0; tries < CHARGE_TRIES && !reply.stats; tries += 1) {
    const { charge } = await fetch(`/playground/charges/${reply.request}`).then((answer) => answer.json()).catch(() => ({}));
    if (charge) {
      reply.stats = charge;
      standing(charge);
      draw(reply);
    } else await new Promise((resume) => setTimeout(resume, CHARGE_MILLISECONDS));
  }
  settle();
  keep();
}

// ---- What is left ----

function standing({ balance, limits }) {
  const rail = document.querySelector(".rail .balance");
  rail.querySelector(".figure").textContent = balance.available;
  const drawn = rail.querySelector(".meter");
  drawn.setAttribute("aria-valuenow", balance.percent);
  drawn.setAttribute("aria-label", `${balance.percent} percent of your credits are left`);
  drawn.querySelector(".used").setAttribute("width", `${balance.percent}%`);
  const place = document.getElementById("limits");
  place.replaceChildren(...limits.map(limit));
  if (!limits.length) place.append(element("p", { class: "hint" }, "No limit holds for this model."));
}

function limit({ name, used, of, percent }) {
  const words = `${short(used)} of ${short(of)}`;
  const ends = element("p", { class: "ends" }, element("span", {}, name), element("span", { class: "muted" }, words));
  return element("div", { class: "limit" }, ends, meter(percent, `${name}: ${words} used`));
}

function short(count) {
  const [scale, letter] = count >= 1_000_000 ? [1_000_000, "M"] : count >= 10_000 ? [1000, "k"] : [1, ""];
  return (count / scale).toLocaleString("en", { maximumFractionDigits: 1 }) + letter;
}

async function look() {
  const told = await fetch(`/playground/standing?${new URLSearchParams({ model: chosen(known.models).name })}`).then((answer) => answer.json()).catch(() => null);
  if (told?.limits) standing(told);
}

// ---- Buttons of messages ----

function act(name, message) {
  const place = messages.indexOf(message);
  if (name === "copy") copyText(message.text).then(() => announce("Copied"), () => announce("Select it and copy by hand"));
  if (running) return;
  if (name === "retry") {
    cut(message.role === "user" ? place + 1 : place);
    prompt.focus();
    ask();
  }
  if (name === "delete") {
    messages.splice(place, 1);
    message.element.remove();
    (messages[place] ?? messages[place - 1])?.element.focus();
    if (!messages.length) prompt.focus();
    settle();
    announce("Deleted");
    keep();
  }
  if (name === "edit") edit(message, place);
}

function edit(message, place) {
  const bubble = message.element.querySelector(".bubble");
  if (bubble.hidden || message.element.querySelector(".edit")) return;
  const form = clone("edit-template");
  const box = form.querySelector("textarea");
  [box.id, form.querySelector("label").htmlFor] = ["edited", "edited"];
  box.value = message.text;
  const close = () => {
    form.replaceWith(bubble);
    message.element.querySelector("[data-act=edit]").focus();
  };
  form.querySelector("[data-act=cancel]").addEventListener("click", close);
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    if (isSend(event)) form.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (running || !(box.value.trim() || message.pictures?.length)) return;
    message.text = box.value;
    close();
    draw(message);
    cut(place + 1);
    prompt.focus();
    ask();
  });
  bubble.replaceWith(form);
  box.focus();
}

// ---- The composer ----

function isSend(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return false;
  event.preventDefault();
  return true;
}

function wrong(text) {
  const place = document.getElementById("composer-wrong");
  place.textContent = text;
  place.hidden = !text;
}

function seeing() {
  const model = chosen(known.models);
  if (model.sees) return "";
  const other = known.models.find((one) => one.sees);
  return other ? `${model.name} cannot see pictures. Choose ${other.name}, which can.` : `${model.name} cannot see pictures, and no model here can.`;
}

const pictures = new Pictures({
  wrong,
  seeing,
  add: addPicture,
  largest: known.largest_picture_bytes,
  held: () => messages.flatMap((message) => message.pictures ?? []),
});

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = prompt.value;
  if (running || !(text.trim() || pictures.attached.length) || !settings()) return;
  if (pictures.attached.length && seeing()) return wrong(seeing());
  wrong("");
  add({ role: "user", text: text.trim() ? text : "", pictures: pictures.take() });
  prompt.value = "";
  prompt.focus();
  ask();
});
prompt.addEventListener("keydown", (event) => {
  if (isSend(event)) composer.requestSubmit();
});
stop.addEventListener("click", () => running?.abort());
for (const button of starters.querySelectorAll("[data-prompt]")) {
  button.addEventListener("click", () => {
    prompt.value = button.dataset.prompt;
    prompt.focus();
  });
}
clear.addEventListener("click", () => document.getElementById("clear-dialog").showModal());
document.getElementById("clear-now").addEventListener("click", () => {
  document.getElementById("clear-dialog").close();
  cut(0);
  keep();
  prompt.focus();
  announce("The conversation is cleared");
});

// ---- The conversation as code ----

async function showCode() {
  const asked = settings();
  if (!asked) return;
  const dialog = document.getElementById("code-dialog");
  const wholes = new Map();
  const mark = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
  const shorten = (url) => {
    const [head, payload] = url.split(";base64,");
    const stands = `${payload.slice(0, 12)}…${mark}${wholes.size}…`;
    wholes.set(stands, payload);
    return `${head};base64,${stands}`;
  };
  const said = turns(shorten);
  if (prompt.value.trim()) said.push({ role: "user", text: prompt.value, images: pictures.attached.map(({ url }) => shorten(url)) });
  // The request that brought the last answer, where none is being written.
  while (said.at(-1)?.role === "assistant") said.pop();
  const told = await fetch("/playground/code", posted(JSON.stringify({ ...asked, turns: said }))).then((answer) => answer.json()).catch(() => ({}));
  if (told.refused) return wrong(`${told.refused.title}. ${told.refused.text}`);
  const panes = dialog.querySelectorAll("pre");
  (told.programs ?? []).forEach(({ code }, number) => {
    panes[number].firstElementChild.replaceChildren(...coloured(code));
    panes[number].whole = [...wholes].reduce((text, [stands, payload]) => text.replaceAll(stands, payload), code);
  });
  document.getElementById("code-hint").hidden = !wholes.size;
  dialog.showModal();
}

document.getElementById("show-code").addEventListener("click", showCode);

prepareSettings(known.models, look);
recall();
settle();
look();
