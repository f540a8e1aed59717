// One line chart: what was measured, what is forecast, and the band around it.

const SVG = "http://www.w3.org/2000/svg";
const MINUTE = 60_000, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const TIME_STEPS = [
  MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR,
  DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 91 * DAY, 365 * DAY,
];
const ROOM = { top: 10, right: 12, bottom: 28, left: 48 };

const clock = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short" });

export const moment = (time) => `${day.format(time)}, ${clock.format(time)}`;

// Draws rows {time, measured?, forecast?, low?, high?} in order of time; `now` is the last known time.
export class Chart {
  constructor(plot) {
    this.svg = plot.querySelector("svg");
    this.readOut = plot.querySelector("output");
    this.rows = [];
    new ResizeObserver(() => this.draw()).observe(plot);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.mark(null));
    this.svg.addEventListener("blur", () => this.mark(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  show(rows, now, describe) {
    Object.assign(this, { rows, now, describe, marked: null });
    this.draw();
  }

  draw() {
    const { width, height } = this.svg.getBoundingClientRect();
    if (!this.rows.length || !width) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const values = this.rows.flatMap((row) => [row.measured, row.forecast, row.low, row.high]).filter(known);
    const first = this.rows[0].time, last = this.rows.at(-1).time;
    const lowest = Math.min(0, least(values)), yStep = niceStep((most(values) - lowest || 1) / (height / 60));
    const top = Math.ceil(most(values) / yStep) * yStep || yStep, bottom = Math.floor(lowest / yStep) * yStep;
    this.x = (time) => ROOM.left + ((time - first) / (last - first || 1)) * (width - ROOM.left - ROOM.right);
    this.y = (value) => height - ROOM.bottom - ((value - bottom) / (top - bottom)) * (height - ROOM.top - ROOM.bottom);
    this.marks = make("g");
    this.svg.replaceChildren(
      ...this.valueAxis(bottom, top, yStep, width),
      ...this.timeAxis(first, last, width, height),
      make("path", { class: "band", d: this.band() }),
      make("path", { class: "measured", d: this.line("measured", (row) => row.time <= this.now) }),
      make("path", { class: "held", d: this.line("measured", (row) => row.time >= this.now) }),
      make("path", { class: "forecast", d: this.line("forecast") }),
      make("line", { class: "now", x1: this.x(this.now), x2: this.x(this.now), y1: ROOM.top, y2: height - ROOM.bottom }),
      this.marks,
    );
    this.mark(this.marked ?? null);
  }

  valueAxis(bottom, top, step, width) {
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const count = Math.round((top - bottom) / step);
    return Array.from({ length: count + 1 }, (_, place) => bottom + place * step).flatMap((value) => {
      const y = Math.round(this.y(value)) + 0.5;
      return [
        make("line", { class: "grid", x1: ROOM.left, x2: width - ROOM.right, y1: y, y2: y }),
        make("text", { x: ROOM.left - 8, y: y + 4, "text-anchor": "end" }, value.toFixed(digits)),
      ];
    });
  }

  timeAxis(first, last, width, height) {
    const most = Math.max(2, Math.floor((width - ROOM.left) / 76));
    const step = TIME_STEPS.find((one) => (last - first) / one <= most) ?? TIME_STEPS.at(-1);
    const marks = [];
    for (let time = Math.ceil(first / step) * step; time <= last; time += step) {
      const x = this.x(time), midnight = time % DAY === 0;
      marks.push(
        make("line", { class: "grid", x1: x, x2: x, y1: height - ROOM.bottom, y2: height - ROOM.bottom + 5 }),
        make("text", {
          x: Math.min(Math.max(x, ROOM.left), width - 22), y: height - 8, "text-anchor": "middle",
        }, midnight ? day.format(time) : clock.format(time)),
      );
    }
    return marks;
  }

  line(name, wanted = () => true) {
    let pen = "M";
    return this.rows.map((row) => {
      if (!known(row[name]) || !wanted(row)) { pen = "M"; return ""; }
      const part = `${pen}${this.x(row.time).toFixed(1)} ${this.y(row[name]).toFixed(1)}`;
      pen = "L";
      return part;
    }).join("");
  }

  band() {
    const rows = this.rows.filter((row) => known(row.low));
    const at = (name) => (row) => `${this.x(row.time).toFixed(1)} ${this.y(row[name]).toFixed(1)}`;
    return rows.length ? `M${[...rows.map(at("high")), ...rows.reverse().map(at("low"))].join("L")}Z` : "";
  }

  point(event) {
    const x = event.clientX - this.svg.getBoundingClientRect().left;
    let low = 0, high = this.rows.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.x((this.rows[middle].time + this.rows[middle + 1].time) / 2) < x) low = middle + 1;
      else high = middle;
    }
    this.mark(low);
  }

  key(event) {
    const last = this.rows.length - 1;
    const at = this.marked ?? this.rows.findIndex((row) => row.time >= this.now);
    const leap = event.shiftKey ? 10 : 1;
    const next = { ArrowLeft: at - leap, ArrowRight: at + leap, Home: 0, End: last, Escape: null }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.mark(next === null ? null : Math.min(Math.max(next, 0), last));
  }

  mark(place) {
    this.marked = place;
    this.readOut.hidden = place === null;
    if (place === null) return this.marks?.replaceChildren();
    const row = this.rows[place], x = this.x(row.time), { width, height } = this.svg.getBoundingClientRect();
    const dots = ["measured", "forecast"].filter((name) => known(row[name])).map(
      (name) => make("circle", { class: name, cx: x, cy: this.y(row[name]), r: 5 }),
    );
    this.marks.replaceChildren(
      make("line", { class: "cross", x1: x, x2: x, y1: ROOM.top, y2: height - ROOM.bottom }), ...dots,
    );
    const title = document.createElement("b");
    title.textContent = moment(row.time);
    this.readOut.replaceChildren(title, ...this.describe(row).flatMap((text) => [text, document.createElement("br")]));
    const room = this.readOut.offsetWidth, left = x + 14 + room > width ? x - 14 - room : x + 14;
    this.readOut.style.left = `${Math.min(Math.max(left, 0), width - room)}px`;
  }
}

const known = (value) => value !== null && value !== undefined;
const least = (values) => values.reduce((one, other) => Math.min(one, other), Infinity);
const most = (values) => values.reduce((one, other) => Math.max(one, other), -Infinity);

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough * (1 - 1e-9));
}

function make(name, attributes = {}, text = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}
