// The settings of the playground: they are remembered in this browser, and the short ones stand in the URL as well.
import { remember, remembered } from "./app.js";

const KEPT = "playground-settings";
const IN_URL = ["model", "temperature", "top_p", "max_tokens", "stream", "json"];
// What every model takes for granted, so no program has to say it.
const USUAL = { temperature: 1, top_p: 1 };
const form = document.getElementById("settings-form");

export function prepareSettings(models, changed) {
  const first = raw();
  let kept = {};
  try {
    kept = JSON.parse(remembered(KEPT) ?? "{}");
  } catch {
    // What cannot be read is forgotten with the next change.
  }
  const asked = Object.fromEntries(new URLSearchParams(location.search));
  fill({ ...kept, ...asked }, models);
  const follow = () => {
    const now = raw();
    remember(KEPT, JSON.stringify(now));
    const short = IN_URL.filter((name) => name === "model" || now[name] !== first[name]).map((name) => [name, now[name]]);
    history.replaceState(null, "", `?${new URLSearchParams(short)}`);
    suit(models);
  };
  form.addEventListener("input", follow);
  form.elements.model.addEventListener("change", () => {
    form.elements.max_tokens.value = chosen(models).max_tokens;
    follow();
    changed();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  suit(models);
}

export function chosen(models) {
  return models.find((model) => model.name === form.elements.model.value);
}

// As the server takes them, or null where one makes no sense, which the form then shows.
export function settings() {
  if (!form.checkValidity()) {
    const panel = document.getElementById("settings");
    if (!panel.checkVisibility()) panel.showPopover();
    form.reportValidity();
    return null;
  }
  const now = raw();
  const told = { model: now.model, stream: now.stream === "on", json: now.json === "on" && !form.elements.json.disabled };
  if (now.system.trim()) told.system = now.system;
  if (now.max_tokens) told.max_tokens = Number(now.max_tokens);
  for (const [name, usual] of Object.entries(USUAL)) {
    if (Number(now[name]) !== usual) told[name] = Number(now[name]);
  }
  return told;
}

function raw() {
  const { model, system, temperature, top_p, max_tokens, stream, json } = form.elements;
  return {
    model: model.value,
    system: system.value,
    temperature: temperature.value,
    top_p: top_p.value,
    max_tokens: max_tokens.value.trim(),
    stream: stream.checked ? "on" : "off",
    json: json.checked ? "on" : "off",
  };
}

function fill(values, models) {
  for (const [name, value] of Object.entries(values)) {
    const input = form.elements[name];
    if (!(name in raw()) || typeof value !== "string") continue;
    if (name === "model" && !models.some((model) => model.name === value)) continue;
    if (input.type === "checkbox") input.checked = value === "on";
    else input.value = value;
    if (input.type === "range") input.closest(".field").querySelector("output").textContent = input.value;
  }
}

// What the chosen model is, and what it cannot do.
function suit(models) {
  const model = chosen(models);
  document.getElementById("field-model-hint").textContent = model.hint;
  form.elements.json.disabled = !model.writes_json;
}
