// Adds to pages what HTML alone cannot: copying, the choice of theme, remembered languages. Every page works without.
const root = document.documentElement;

export function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Storage may be forbidden; the choice then holds for this page.
  }
}

export function remembered(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

// ---- Theme ----

function chooseTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const seen = root.dataset.theme ?? (dark ? "dark" : "light");
  root.dataset.theme = seen === "dark" ? "light" : "dark";
  remember("theme", root.dataset.theme);
  dispatchEvent(new Event("themechange"));
}

// ---- Copying ----

// The clipboard is there on https and localhost alone; elsewhere the old command still copies a selection.
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const box = document.createElement("textarea");
  box.value = text;
  box.className = "hidden";
  (document.querySelector("dialog[open]") ?? document.body).append(box);
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  if (!done) throw new Error("The browser did not copy.");
}

function textFor(button) {
  if (button.dataset.copy) return document.getElementById(button.dataset.copy).textContent;
  const panes = document.getElementById(button.dataset.copyCode).querySelectorAll("pre");
  const shown = [...panes].find((pane) => pane.offsetParent !== null);
  // What is too long to be shown is copied whole.
  return shown.whole ?? shown.textContent;
}

async function copy(button) {
  let said = "Copied";
  try {
    await copyText(textFor(button));
    keepNoLonger(button.closest("dialog[data-kept]"));
  } catch {
    said = "Select it and copy by hand";
  }
  announce(said);
  const text = button.querySelector("span");
  button.classList.add("said");
  if (text) {
    button.dataset.usual ??= text.textContent;
    text.textContent = said;
  }
  clearTimeout(button.pending);
  button.pending = setTimeout(() => {
    button.classList.remove("said");
    if (text) text.textContent = button.dataset.usual;
  }, 2000);
}

// What changed, for screen readers. The place for it stands in the open dialog, where there is one: all else is inert.
export function announce(text) {
  const holder = document.querySelector("dialog[open]") ?? document.body;
  let place = holder.querySelector(":scope > [data-announced]");
  if (!place) {
    place = document.createElement("p");
    place.className = "hidden";
    place.dataset.announced = "";
    place.setAttribute("role", "status");
    holder.append(place);
  }
  place.textContent = text;
}

// ---- Dialogs ----

// A secret that is shown once stays until it was copied: Escape does not close its dialog.
function keepNoLonger(dialog) {
  if (!dialog) return;
  delete dialog.dataset.kept;
  dialog.removeAttribute("closedby");
}

// A link to a page that shows a dialog opens the dialog, where it is in this page already.
function opens(event, link) {
  const dialog = document.getElementById(link.dataset.opens);
  if (!dialog || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  dialog.showModal();
}

function prepareDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("cancel", (event) => {
      if ("kept" in dialog.dataset) event.preventDefault();
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog && !("kept" in dialog.dataset)) dialog.close();
    });
  }
  const open = document.querySelector("dialog[open]");
  if (open) {
    open.close();
    open.showModal();
    const first = ".body :is(input:not([type=hidden]), select, textarea)";
    (open.querySelector("[aria-invalid=true], [autofocus]") ?? open.querySelector(first))?.focus();
  }
}

// What buttons say in `command` browsers do by themselves since 2025.
function command(button) {
  if ("commandForElement" in HTMLButtonElement.prototype) return;
  const dialog = document.getElementById(button.getAttribute("commandfor"));
  if (button.getAttribute("command") === "close") dialog.close();
  else dialog.showModal();
}

// ---- Forms ----

function checkTyped(input) {
  const wrong = input.value !== "" && input.value !== input.dataset.typed;
  input.setCustomValidity(wrong ? `Type ${input.dataset.typed}, exactly as it is written.` : "");
}

// A form that is on its way is not sent twice, until it took too long. Coming back to the page by the browser's history
// makes it sendable again.
function sendOnce(event) {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if ("sent" in form.dataset) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "";
  setTimeout(() => delete form.dataset.sent, 10_000);
}

// What a page kept in this tab goes with whoever signs out.
function forget(event) {
  if (event.target.getAttribute("action") !== "/logout") return;
  try {
    sessionStorage.clear();
  } catch {
    // Where storage is forbidden, nothing was kept.
  }
}

function sendable() {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
}

// ---- Code ----

function chooseLanguage(language) {
  for (const input of document.querySelectorAll("input[data-language]")) {
    if (input.value === language) input.checked = true;
  }
}

// ---- A key's first request ----

const ASKED_EVERY_MILLISECONDS = 1500;
const ASKED_FOR_MILLISECONDS = 15 * 60 * 1000;

// Asks until the request has come, for as long as somebody may sit in front of this.
async function waitForRequest(place) {
  const latest = Date.now() + ASKED_FOR_MILLISECONDS;
  while (Date.now() < latest) {
    const { request } = await fetch(place.dataset.waitsFor).then((answer) => answer.json()).catch(() => ({}));
    if (request) {
      place.classList.add("came");
      place.textContent =
        request.status === "refused"
          ? `A request came and was refused: ${request.error.replaceAll("_", " ")}.`
          : `First request received: ${request.tokens.toLocaleString("en")} tokens, ${request.cost}.`;
      return;
    }
    await new Promise((resume) => setTimeout(resume, ASKED_EVERY_MILLISECONDS));
  }
  place.textContent = "No request has come yet. Reload this page to go on waiting.";
}

// ---- Times ----

function addLocalTimes() {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  for (const time of document.querySelectorAll("time[datetime]:not([title])")) {
    time.title = `${format.format(new Date(time.dateTime))}, your time`;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button, a");
  if (!button) return;
  if ("themeButton" in button.dataset) chooseTheme();
  if (button.dataset.copy || button.dataset.copyCode) copy(button);
  if (button.hasAttribute("commandfor")) command(button);
  if (button.dataset.opens) opens(event, button);
  if ("close" in button.dataset) {
    event.preventDefault();
    button.closest("dialog").close();
  }
});
document.addEventListener("input", (event) => {
  const input = event.target;
  if (input.dataset.typed) checkTyped(input);
  if (input.type === "range") input.closest(".field")?.querySelector("output")?.replaceChildren(input.value);
});
document.addEventListener("change", (event) => {
  if (!("language" in event.target.dataset)) return;
  remember("language", event.target.value);
  chooseLanguage(event.target.value);
});
document.addEventListener("submit", sendOnce);
document.addEventListener("submit", forget);
addEventListener("pageshow", sendable);

const language = remembered("language");
if (language) chooseLanguage(language);
prepareDialogs();
addLocalTimes();
document.addEventListener("written", addLocalTimes);
document.querySelector(".places [aria-current]")?.scrollIntoView({ block: "nearest" });
for (const place of document.querySelectorAll("[data-waits-for]")) waitForRequest(place);
