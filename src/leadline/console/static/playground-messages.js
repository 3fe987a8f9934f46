// How one message of the playground looks. A message is {role, model, text, pictures, content, thought, stats, refused,
// state}; `content` is the tree of a whole answer, `refused` why there is none.
import { element, written } from "./playground-text.js";

const STATES = { waiting: "Waiting", streaming: "Streaming", stopped: "Stopped" };

export function clone(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

export function addPicture(list, url, name) {
  const item = clone("picture-template");
  item.querySelector("img").src = url;
  item.querySelector("span").textContent = name;
  list.append(item);
  return item;
}

// A new element for a message. `act(name, message)` is told of its buttons.
export function shown(message, act) {
  const article = clone("message-template");
  article.querySelector("h2").textContent = message.role === "user" ? "You" : message.model;
  article.classList.add(message.role);
  for (const button of article.querySelectorAll("[data-act]")) {
    button.addEventListener("click", () => act(button.dataset.act, message));
  }
  if (message.role !== "user") part(article, "edit", "act").remove();
  message.element = article;
  draw(message);
  return article;
}

export function draw(message) {
  const article = message.element;
  const state = part(article, "state");
  state.textContent = STATES[message.state] ?? "";
  state.hidden = !state.textContent;
  state.classList.toggle("accent", message.state !== "stopped");
  article.setAttribute("aria-busy", message.state === "streaming" || message.state === "waiting");
  part(article, "copy", "act").hidden = !message.text;
  drawSaid(message);
  drawPictures(message);
  drawThought(message);
  drawStats(message);
  drawRefusal(message);
  const hasBubble = Boolean(message.text || message.thought || message.pictures?.length || message.state === "waiting" || message.state === "streaming");
  article.querySelector(".bubble").hidden = !hasBubble;
}

// A piece that was streamed: the rest of the message stays as it is drawn.
export function drawPiece(message, piece) {
  const said = part(message.element, "said");
  if (!said.classList.contains("plain-text")) draw(message);
  else said.lastChild.appendData(piece);
}

function drawSaid(message) {
  const said = part(message.element, "said");
  const isTree = Boolean(message.content);
  said.classList.toggle("plain-text", !isTree);
  said.classList.toggle("caret", message.state === "streaming" || message.state === "waiting");
  said.replaceChildren(...(isTree ? written(message.content) : [document.createTextNode(message.text)]));
}

function drawPictures(message) {
  const list = part(message.element, "pictures");
  list.replaceChildren();
  for (const picture of message.pictures ?? []) {
    addPicture(list, picture.url, picture.name).querySelector("button").remove();
  }
  list.hidden = !list.childElementCount;
}

function drawThought(message) {
  const thought = part(message.element, "thought");
  thought.hidden = !message.thought;
  thought.querySelector("p").textContent = message.thought ?? "";
}

function drawStats(message) {
  const list = part(message.element, "stats");
  const stats = message.stats;
  list.hidden = !stats;
  if (!stats) return;
  const { tokens } = stats;
  const milliseconds = stats.first_token_milliseconds;
  // [name, value, whether the name stands behind the value]
  const told = [
    ["in", counted(tokens.input), true],
    tokens.cached ? ["of it cached", counted(tokens.cached), true] : null,
    ["out", counted(tokens.output), true],
    tokens.reasoning ? ["thoughts", counted(tokens.reasoning), true] : null,
    milliseconds === null ? null : ["first token", `${counted(milliseconds)} ms`, false],
    stats.tokens_per_second === null ? null : ["tokens/s", counted(stats.tokens_per_second), true],
    ["Cost", stats.cost, "hidden"],
    ["Request", element("a", { class: "mono", href: `/log/${stats.request}`, title: stats.request }, stats.request.slice(0, 13)), "hidden"],
  ];
  list.replaceChildren(
    ...told.filter(Boolean).map(([name, value, behind]) =>
      element(
        "div",
        { class: behind === true ? "behind" : "" },
        element("dt", { class: behind === "hidden" ? "hidden" : "" }, name),
        element("dd", {}, value),
      ),
    ),
  );
}

function counted(number) {
  return number.toLocaleString("en");
}

function drawRefusal(message) {
  const place = part(message.element, "note");
  place.replaceChildren();
  const refused = message.refused;
  if (!refused) return;
  const note = clone("note-template");
  const [title, text, link] = ["b", "span", "a"].map((tag) => note.querySelector(`div > ${tag}`));
  title.textContent = `${refused.title}.`;
  text.textContent = refused.text;
  if (refused.link) {
    [link.href, link.textContent] = refused.link;
    link.hidden = false;
  }
  if (refused.retry_after) countDown(note, link, refused);
  place.append(note);
}

// Says how long to wait, and then that it may be tried again.
function countDown(note, link, refused) {
  const until = (refused.until ??= Date.now() + refused.retry_after * 1000);
  const clock = element("span", { "aria-hidden": "true" });
  link.before(clock, " ");
  const tick = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    clock.textContent = left > 0 ? `You can ask again in ${left} s.` : "You can ask again now.";
    if (left > 0 && (note.isConnected || !tick.seen)) setTimeout(tick, 1000);
    tick.seen = true;
  };
  tick();
}

function part(article, name, kind = "part") {
  return article.querySelector(`[data-${kind}="${name}"]`);
}
