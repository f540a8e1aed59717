// Who is champion, how the others did, and who was before.

import { modelName, percent, scored, shown, signed, wordsOf } from "./units.js";

export function make(name, attributes = {}, ...content) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...content);
  return element;
}

const moment = (text) => new Date(text).toLocaleString(
  undefined, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" },
);

function ago(text) {
  const seconds = Math.max(0, (Date.now() - Date.parse(text)) / 1000);
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const [size, unit] of [[86_400, "day"], [3600, "hour"], [60, "minute"]]) {
    if (seconds >= size) return words.format(-Math.floor(seconds / size), unit);
  }
  return "just now";
}

export function champion(list, reason, summary) {
  const fact = (name, value, small, kind = "") => make(
    "div", {}, make("dt", {}, name), make("dd", { class: kind }, value, make("small", {}, small)),
  );
  const beats = summary.skill > 0;
  const hash = make("code", { title: summary.config_hash }, summary.config_hash.slice(0, 12));
  list.replaceChildren(
    fact("Model", modelName(summary.model_type), `of ${summary.station}`),
    fact("Score", scored(summary.score), "lower is better"),
    fact("Skill", signed(summary.skill), beats ? "better than persistence" : "not better than persistence", beats ? "good" : "bad"),
    fact("Since", ago(summary.since), moment(summary.since)),
    fact("Recipe", summary.recipe, hash),
  );
  reason.textContent = `Why: ${summary.reason}`;
}

export function leaderboard(table, note, board, championName) {
  const ranked = (entry) => (board.rank_on === "backtest" && entry.backtest) || entry.scores;
  const level = board.entries.flatMap((entry) => Object.keys(entry.coverage ?? {}))[0];
  const largest = Math.max(...board.entries.map((entry) => ranked(entry).score));
  note.textContent =
    `${board.forecasts.toLocaleString("en")} test windows of ${board.targets.map(wordsOf).join(", ").toLowerCase()}, ranked by ${board.rank_by}`
    + `${board.rank_on === "backtest" ? " in the backtest" : ""}. Shorter bars are better.`;
  const head = [
    ["Model"], ["Score", "score"], ["Skill", "number"], ["RMSE", "number medium"], ["MAE", "number medium"],
    [level ? `In its ${percent(level, 0)} band` : "In its band", "number wide"],
    ["Trained in", "number wide"], ["Forecast in", "number wide"],
  ];
  table.replaceChildren(
    make("thead", {}, make("tr", {}, ...head.map(([name, kind = ""]) => make("th", { class: kind, scope: "col" }, name)))),
    make("tbody", {}, ...board.entries.map((entry) => row(entry, ranked(entry), largest, entry.name === championName, level))),
  );
}

function row(entry, scores, largest, isChampion, level) {
  const bar = make("i");
  bar.style.width = `${Math.max(1, (100 * scores.score) / largest)}%`;
  const name = make("th", { scope: "row" }, modelName(entry.name));
  if (isChampion) name.append(make("span", { class: "tag" }, "champion"));
  else if (entry.kind === "baseline") name.append(make("span", { class: "tag" }, "baseline"));
  const covered = entry.coverage?.[level];
  const cell = (text, kind = "") => make("td", { class: `number ${kind}` }, text);
  return make("tr", isChampion ? { class: "champion" } : {},
    name,
    make("td", {}, make("div", { class: "bar" }, make("span", {}, scored(scores.score)), make("span", { class: "track" }, bar))),
    cell(signed(entry.skill)),
    cell(scored(scores.rmse), "medium"),
    cell(scored(scores.mae), "medium"),
    cell(covered === undefined ? "–" : percent(covered), "wide"),
    cell(duration(entry.fit_s), "wide"),
    cell(duration(entry.predict_s), "wide"),
  );
}

const duration = (seconds) => seconds < 0.001 ? "< 1 ms" : (seconds < 1 ? `${shown(1000 * seconds, 2)} ms` : `${shown(seconds, 3)} s`);

export function history(table, promotions) {
  const head = [["Promoted"], ["Model"], ["Score", "number"], ["Skill", "number"], ["Why"]];
  table.replaceChildren(
    make("thead", {}, make("tr", {}, ...head.map(([name, kind = ""]) => make("th", { class: kind, scope: "col" }, name)))),
    make("tbody", {}, ...promotions.map((one, place) => make("tr", {},
      make("td", { class: "when" }, make("time", { datetime: one.timestamp, title: one.actor }, moment(one.timestamp))),
      make("td", {}, modelName(one.model_type), ...(place ? [] : [make("span", { class: "tag" }, "now")])),
      make("td", { class: "number", "data-name": "Score" }, scored(one.score)),
      make("td", { class: "number", "data-name": "Skill" }, signed(one.skill)),
      make("td", { class: "why" }, one.reason),
    ))),
  );
}
