// The page: which champion is looked at, whose rows are shown, and what is forecast after them.

import { Chart, moment } from "./chart.js";
import { ask, columnsOf, keepToken } from "./service.js";
import * as tables from "./tables.js";
import { shown, unitOf, wordsOf } from "./units.js";

const POLL_MS = 5000;
const UNREACHABLE = "unreachable";
const at = (id) => document.getElementById(id);
const chart = new Chart(document.querySelector(".plot"));

const state = {
  seen: "", // the last answer of /stations
  champions: [],
  summary: null, // the champion that is looked at
  model: null, // what /model says of it
  rows: null, // {name, data, own}: whose rows are shown
  answer: null, // {predictions, level, held}: what is forecast after them
  asked: 0, // numbers the questions: a late answer to an old one is dropped
};

async function look() {
  let stations;
  try {
    stations = await ask("stations");
  } catch (error) {
    if (state.seen === UNREACHABLE) return;
    state.seen = UNREACHABLE;
    status("not reachable", "bad");
    return at("notices").replaceChildren(notice("The list of champions cannot be read", error));
  }
  const seen = JSON.stringify(stations);
  if (seen === state.seen) return;
  state.seen = seen;
  state.champions = stations.champions;
  at("notices").replaceChildren(...Object.entries(stations.refused).map(refusal));
  const any = stations.champions.length > 0;
  at("empty").hidden = any;
  at("content").hidden = !any;
  status(any ? "ready" : "no champion", any ? "good" : "bad");
  if (!any) return;
  const hash = state.summary?.config_hash;
  fillStations(hash);
  await choose(stations.champions.find((one) => one.config_hash === hash) ?? stations.champions[0]);
}

function fillStations(hash) {
  const twice = (station) => state.champions.filter((one) => one.station === station).length > 1;
  at("station").replaceChildren(...state.champions.map((one) => {
    const option = tables.make("option", { value: one.config_hash }, twice(one.station) ? `${one.station} (${one.recipe})` : one.station);
    option.selected = one.config_hash === hash;
    return option;
  }));
}

async function choose(summary) {
  const path = `stations/${encodeURIComponent(summary.station)}`, query = `config_hash=${summary.config_hash}`;
  const number = ++state.asked;
  const [model, board, rows] = await Promise.allSettled(
    [ask(`model?${query}`), ask(`${path}/leaderboard?${query}`), ask(`${path}/recent?${query}`)],
  );
  if (number !== state.asked) return;
  if (model.status === "rejected") return fault("Nothing can be said of this champion", model.reason);
  const { champion, history, window } = model.value;
  Object.assign(state, { summary, model: model.value });
  at("station").value = summary.config_hash;
  tables.champion(at("champion"), at("reason"), { ...summary, reason: champion.reason });
  tables.history(at("history"), history);
  if (board.status === "fulfilled") tables.leaderboard(at("board"), at("board-note"), board.value, champion.model_type);
  else { at("board").replaceChildren(); at("board-note").textContent = board.reason.message; }
  const target = at("target").value;
  at("target").replaceChildren(...window.targets.map((one) => tables.make("option", { value: one }, wordsOf(one))));
  if (window.targets.includes(target)) at("target").value = target;
  if (state.rows?.own) return forecast();
  if (rows.status === "rejected") {
    state.rows = null;
    at("chart").hidden = true;
    at("source").textContent = "";
    return fault("There are no rows of this station", rows.reason);
  }
  return forecast({ name: rows.value.file, data: rows.value.data, own: false });
}

// Forecasts after `rows`, and keeps them if the service can. A file that it refuses changes nothing.
async function forecast(rows = state.rows) {
  if (!rows || !at("controls").reportValidity()) return;
  const number = ++state.asked;
  const steps = at("steps").valueAsNumber, held = at("held").checked ? steps : 0;
  const level = Math.max(0, ...state.model.levels);
  const data = rows.own ? rows.data : complete(rows.data);
  const body = {
    data: held ? rowsOf(data, 0, -held) : data,
    inference_length: steps,
    config_hash: state.summary.config_hash,
    ...(level && { levels: [level] }),
  };
  at("forecast").setAttribute("aria-busy", "true");
  try {
    const answer = await ask("predict", body);
    if (number !== state.asked) return;
    state.rows = rows;
    state.answer = { predictions: answer.predictions, level, held };
    at("fault").replaceChildren();
    at("back").hidden = !rows.own;
    show();
  } catch (error) {
    if (number !== state.asked) return;
    const newFile = rows.own && rows !== state.rows;
    at("chart").hidden ||= !(newFile && state.rows);
    fault(rows.own ? `${rows.name} cannot be forecast` : "No forecast", error);
  } finally {
    at("forecast").removeAttribute("aria-busy");
  }
}

const rowsOf = (data, ...range) => Object.fromEntries(Object.entries(data).map(([name, column]) => [name, column.slice(...range)]));

// The rows after the last empty cell: a forecast needs every value of its window.
function complete(data) {
  const columns = Object.values(data);
  const first = Math.max(...columns.map((column) => column.lastIndexOf(null))) + 1;
  return rowsOf(data, first);
}

const instant = (text) => Date.parse(`${text.trim().replace(" ", "T")}Z`);

function show() {
  const { predictions, level, held } = state.answer, { data, name, own } = state.rows;
  const target = at("target").value, suffix = Number((100 * level).toPrecision(6));
  const times = data.time.map(instant), known = times.length - held;
  const step = times.at(-1) - times.at(-2), now = times[known - 1];
  const start = now - Number(document.querySelector("[name=hours]:checked").value) * 3_600_000;
  const rows = times.map((time, place) => ({ time, measured: data[target][place] })).filter((row) => row.time > start);
  const heldRows = new Map(rows.filter((row) => row.time > now).map((row) => [row.time, row]));
  predictions.forEach((one, place) => {
    const time = now + (place + 1) * step;
    const row = heldRows.get(time) ?? { time };
    if (!heldRows.has(time)) rows.push(row);
    Object.assign(row, { forecast: one[target], low: one[`${target}-lo-${suffix}`], high: one[`${target}-hi-${suffix}`] });
  });
  const unit = unitOf(target, Math.max(...rows.map((row) => row.high ?? row.forecast ?? row.measured ?? 0)), step);
  for (const row of rows) {
    for (const key of ["measured", "forecast", "low", "high"]) if (typeof row[key] === "number") row[key] /= unit.by;
  }
  at("source").textContent = own ? `your file ${name}` : `the last day of ${name}`;
  at("unit").textContent = unit.axis;
  legend(level, held);
  at("chart").hidden = false;
  chart.show(rows, now, (row) => describe(row, unit));
  at("summary").textContent = summarise(rows.filter((row) => row.forecast !== undefined), unit, level, held);
}

function legend(level, held) {
  const entries = [["measured", "measured"], ["forecast", "forecast"]];
  if (held) entries.splice(1, 0, ["held", "held back"]);
  if (level) entries.push(["band", `${shown(100 * level)} % band`]);
  at("legend").replaceChildren(...entries.map(([kind, words]) => tables.make("li", { class: kind }, words)));
}

function describe(row, unit) {
  const lines = [];
  if (typeof row.measured === "number") lines.push(`measured ${shown(row.measured)} ${unit.name}`);
  if (row.forecast !== undefined) lines.push(`forecast ${shown(row.forecast)} ${unit.name}`);
  if (row.low !== undefined) lines.push(`band ${shown(row.low, 3)} to ${shown(row.high, 3)} ${unit.name}`);
  return lines;
}

function summarise(ahead, unit, level, held) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const compared = ahead.filter((row) => typeof row.measured === "number");
  let text = `${ahead.length} steps, ${moment(ahead[0].time)} to ${moment(ahead.at(-1).time)}: `
    + `mean ${shown(mean(ahead.map((row) => row.forecast)))} ${unit.axis}.`;
  if (held && compared.length) {
    text += ` Off by ${shown(mean(compared.map((row) => Math.abs(row.measured - row.forecast))), 3)} ${unit.name} on average`;
    const inside = compared.filter((row) => row.measured >= row.low && row.measured <= row.high).length;
    text += level ? `; ${inside} of ${compared.length} measured values lie in the band.` : ".";
  }
  return text;
}

async function useFile(file) {
  if (file) await forecast({ name: file.name, data: columnsOf(await file.text()), own: true });
}

function status(words, kind) {
  at("status").textContent = words;
  at("status").className = `pill ${kind}`;
}

function notice(title, error) {
  const asksToken = error.status === 401;
  const heading = tables.make("strong", {}, asksToken ? "This service asks for a token" : title);
  return tables.make("div", { class: "notice" }, heading, error.message, ...(asksToken ? [tokenForm()] : []));
}

const refusal = ([hash, why]) => tables.make("details", { class: "notice" },
  tables.make("summary", {}, `The promotion of ${hash.slice(0, 12)} is refused: it is not served`), why);

const fault = (title, error) => at("fault").replaceChildren(notice(title, error));

function tokenForm() {
  const input = tables.make("input", { type: "password", "aria-label": "Token", placeholder: "token", autocomplete: "off" });
  const form = tables.make("form", {}, input, tables.make("button", {}, "Use this token"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    keepToken(input.value);
    at("fault").replaceChildren();
    choose(state.summary);
  });
  return form;
}

at("station").addEventListener("change", (event) => {
  state.rows = state.rows?.own ? state.rows : null;
  choose(state.champions.find((one) => one.config_hash === event.target.value));
});
at("controls").addEventListener("submit", (event) => event.preventDefault());
at("steps").addEventListener("change", () => forecast());
at("held").addEventListener("change", () => forecast());
at("target").addEventListener("change", () => state.rows && show());
for (const input of document.querySelectorAll("[name=hours]")) input.addEventListener("change", () => state.rows && show());
at("back").addEventListener("click", () => { state.rows = null; choose(state.summary); });
at("csv").addEventListener("change", async (event) => {
  await useFile(event.target.files[0]);
  event.target.value = "";
});
const drop = at("forecast");
for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("dropping"); });
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.remove("dropping"); });
drop.addEventListener("drop", (event) => useFile(event.dataTransfer.files[0]));

look();
setInterval(() => { if (!document.hidden) look(); }, POLL_MS);
