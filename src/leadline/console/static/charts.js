// Draws each <canvas data-chart> as stacked bars, in the colours of tokens.css. Needs vendor/chart.umd.min.js.
const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);

// What a colour of tokens.css is now, in this theme: a canvas does not know variables.
export function colour(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

const drawn = new Map();

const TICKS_PER_USD = 1e10;

// Small amounts keep two figures that say something; "ticks" come exactly as they were charged.
function amount(value, unit) {
  if (unit !== "$" && unit !== "ticks") return value.toLocaleString("en");
  const usd = unit === "ticks" ? value / TICKS_PER_USD : value;
  const decimals = usd === 0 ? 2 : Math.min(10, Math.max(2, 1 - Math.floor(Math.log10(Math.abs(usd)))));
  return `$${usd.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: decimals })}`;
}

function datasets(series) {
  return series.map(({ name, numbers }, at) => ({
    label: name,
    data: numbers,
    backgroundColor: colour(`--series-${(at % 6) + 1}`),
    hoverBackgroundColor: colour(`--series-${(at % 6) + 1}`),
    barPercentage: 0.72,
    categoryPercentage: 0.92,
    maxBarThickness: 40,
    borderColor: colour("--surface"),
    borderWidth: { top: at < series.length - 1 ? 1 : 0 },
    borderRadius: at === series.length - 1 ? { topLeft: 3, topRight: 3 } : 0,
    borderSkipped: false,
  }));
}

function tooltip(unit) {
  return {
    backgroundColor: colour("--solid"),
    titleColor: colour("--on-solid"),
    bodyColor: colour("--on-solid"),
    footerColor: colour("--on-solid"),
    padding: 11,
    cornerRadius: 8,
    boxWidth: 8,
    boxHeight: 8,
    boxPadding: 5,
    usePointStyle: true,
    callbacks: {
      label: (item) => `${item.dataset.label}  ${amount(item.parsed.y, unit)}`,
      footer: (items) => `Total  ${amount(items.reduce((sum, item) => sum + item.parsed.y, 0), unit)}`,
    },
  };
}

function draw(canvas) {
  const { labels, series, unit } = JSON.parse(document.getElementById(canvas.dataset.chart).textContent);
  Chart.defaults.font = { family: getComputedStyle(document.body).fontFamily, size: 12 };
  Chart.defaults.color = colour("--ink-3");
  drawn.get(canvas)?.destroy();
  drawn.set(canvas, new Chart(canvas, {
    type: "bar",
    data: { labels, datasets: datasets(series) },
    options: {
      animation: false,
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      scales: {
        x: {
          stacked: true,
          grid: { display: false },
          border: { color: colour("--line-2") },
          ticks: { maxRotation: 0, autoSkipPadding: 22 },
        },
        y: {
          stacked: true,
          beginAtZero: true,
          border: { display: false },
          grid: { color: colour("--grid") },
          grace: "6%",
          ticks: { maxTicksLimit: 6, padding: 8, callback: (value) => amount(value, unit) },
        },
      },
      plugins: { legend: { display: false }, tooltip: tooltip(unit) },
    },
  }));
}

function drawAll() {
  document.querySelectorAll("canvas[data-chart]").forEach(draw);
}

addEventListener("themechange", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
await document.fonts.ready;
drawAll();
