// Columns of a base station in words and units that people read.

const PREFIXES = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
const WORDS = {
  down: "Downlink traffic", up: "Uplink traffic", rnti_count: "Users seen",
  mcs_down: "Downlink coding scheme", mcs_up: "Uplink coding scheme",
  rb_down: "Downlink resource blocks", rb_up: "Uplink resource blocks",
};
const MODELS = { ENSEMBLE: "Ensemble", TREES: "Trees", PROPHET: "Prophet", seasonal_naive: "seasonal naive" };

export const wordsOf = (column) => WORDS[column] ?? column;
export const modelName = (name) => MODELS[name] ?? name.replaceAll("_", " ");
export const shown = (value, digits = 4) =>
  value.toLocaleString("en", { maximumSignificantDigits: digits, useGrouping: true });
export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
export const scored = (value) => value.toPrecision(4);
export const signed = (share) =>
  Math.abs(share) < 5e-4 ? percent(0) : `${share < 0 ? "−" : "+"}${percent(Math.abs(share))}`;

// How values of a column are drawn: divided by `by`, in `name`; `largest` chooses the prefix.
export function unitOf(column, largest, stepMs) {
  const minutes = stepMs / 60_000;
  const each = minutes === 1 ? "a minute" : `in ${shown(minutes)} min`;
  if (column === "down" || column === "up") {
    const [by, prefix] = PREFIXES.find(([size]) => largest >= 2 * size) ?? [1, ""];
    return { by, name: `${prefix}bit`, axis: `${prefix}bit ${each}` };
  }
  if (column === "rb_down" || column === "rb_up") return { by: 0.01, name: "%", axis: "% of resource blocks" };
  if (column === "rnti_count") return { by: 1, name: "users", axis: `users ${each}` };
  return { by: 1, name: "", axis: column };
}
