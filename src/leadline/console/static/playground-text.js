// Makes elements of what models and snippets say. Nothing here reads HTML: a tree of a few known elements comes from the
// server, and every text becomes a text node, so no answer can be a script, load anything, or look like the page.
const KNOWN = new Set(
  "p h3 h4 h5 h6 ul ol li blockquote pre hr table thead tbody tr th td strong em s a br code".split(" "),
);
const SAFE = new Set(["http:", "https:", "mailto:"]);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// The nodes of a tree: a text, or [tag, attributes, ...nodes].
export function written(tree) {
  return tree.map((node) => {
    if (typeof node === "string") return document.createTextNode(node);
    const [tag, attributes, ...nodes] = node;
    if (tag === "pre") return block(String(nodes[0] ?? ""), String(attributes.language ?? ""));
    if (!KNOWN.has(tag)) return element("span", {}, ...written(nodes));
    const made = element(tag, {}, ...written(nodes));
    if (tag === "a") lead(made, attributes.href);
    if (tag === "ol" && Number.isInteger(attributes.start)) made.start = attributes.start;
    if (attributes.right === true) made.className = "number";
    return tag === "table" ? element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table" }, made) : made;
  });
}

// Where a link leads is seen before it is followed, and its page learns nothing of this one.
function lead(link, href) {
  let url = null;
  try {
    url = new URL(href);
  } catch {
    return;
  }
  if (!SAFE.has(url.protocol)) return;
  link.href = url.href;
  link.title = url.href;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
}

function block(text, language) {
  const pre = element("pre", { tabindex: "0", "aria-label": language || "Code", role: "region" }, element("code", {}, ...coloured(text)));
  const bar = element("div", { class: "tabs" }, element("span", { class: "language" }, language || "Code"));
  return element("div", { class: "code" }, bar, pre);
}

const TOKENS = /("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|((?<![\w./:-])\d+(?:\.\d+)?\b(?![.:/]\d))|\b(import|from|for|in|with|as|print|await|const|new|of|return|def|class|if|else|elif|while|async|function|let|True|False|None|true|false|null|curl)\b|((?:^|(?<=\s))(?:#|\/\/)[^\n]*)/gm;
const CLASSES = ["s", "n", "k", "c"];
const LONGEST_COLOURED = 40_000;

// The four colours of programs, by rules that hold for all languages that are shown here.
export function coloured(text) {
  if (text.length > LONGEST_COLOURED) return [text];
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(TOKENS)) {
    const kind = CLASSES[match.slice(1).findIndex((group) => group !== undefined)];
    nodes.push(text.slice(end, match.index), element("span", { class: kind }, match[0]));
    end = match.index + match[0].length;
  }
  return [...nodes, text.slice(end)];
}

// The tick meter, as the macro of the same name draws it.
export function meter(percent, label) {
  const shown = Math.max(0, Math.min(100, percent));
  const state = shown >= 95 ? "bad" : shown >= 80 ? "warn" : "calm";
  const drawn = svg("svg", { class: `meter small ${state}`, role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": shown });
  drawn.append(svg("rect", { width: "100%", height: "100%" }), svg("rect", { class: "used", width: `${shown}%`, height: "100%" }));
  return drawn;
}

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
