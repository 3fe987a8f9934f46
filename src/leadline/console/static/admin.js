// Keeps the figures of engines and pulls, and the check of the books, as they are now. The pages work without.
const BUSY_MILLISECONDS = 1000;
const CALM_MILLISECONDS = 4000;
const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));
const asked = (url) => fetch(url).then((answer) => (answer.ok ? answer.json() : null)).catch(() => null);

// Of our own pages alone: the policy lets nothing else make elements of a text.
const fragments = window.trustedTypes?.createPolicy("fragments", { createHTML: (markup) => markup }) ?? {
  createHTML: (markup) => markup,
};

// What somebody works with stays as it is: a place with the focus in it is not written anew.
function write(parts) {
  for (const place of document.querySelectorAll("[data-part]")) {
    const markup = parts[place.dataset.part];
    if (markup === undefined || place.written === markup || place.contains(document.activeElement)) continue;
    place.written = markup;
    place.innerHTML = fragments.createHTML(markup);
  }
  document.dispatchEvent(new Event("written"));
}

async function follow(url) {
  for (;;) {
    const now = document.hidden ? null : await asked(url);
    if (now) write(now.parts);
    await pause(now?.busy ? BUSY_MILLISECONDS : CALM_MILLISECONDS);
  }
}

async function followCheck(place) {
  for (;;) {
    await pause(BUSY_MILLISECONDS);
    const now = await asked(place.dataset.check);
    if (now && !now.runs) {
      location.reload();
      return;
    }
    if (now) place.querySelector("span").textContent = `${now.read.toLocaleString("en")} entries read so far.`;
  }
}

const engines = document.querySelector("[data-now]");
if (engines) follow(engines.dataset.now);
for (const place of document.querySelectorAll("[data-check]")) followCheck(place);
