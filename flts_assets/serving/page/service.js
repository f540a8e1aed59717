// What the page asks the service, and how a CSV becomes such a question.

const TOKEN = "flts-token";

export class ServiceError extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.kind = error.kind;
  }
}

export const keepToken = (token) => sessionStorage.setItem(TOKEN, token);

export async function ask(path, body) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.authorization = `Bearer ${token}`;
  if (body) headers["content-type"] = "application/json";
  const options = body ? { method: "POST", body: JSON.stringify(body), headers } : { headers };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new ServiceError(0, { kind: "Unreachable", message: "The service does not answer." });
  }
  const content = await response.json().catch(() => ({}));
  if (response.ok) return content;
  throw new ServiceError(response.status, content.error ?? {
    kind: "ServiceError", message: `The service answered ${response.status} ${response.statusText}.`,
  });
}

// Columns as /predict takes them. Cells that are no numbers stay text: the service tells what is wrong.
export function columnsOf(text) {
  const [header, ...lines] = text.trimEnd().split(/\r\n|\n|\r/);
  const names = cellsOf(header);
  const columns = names.map(() => []);
  for (const line of lines) {
    cellsOf(line).forEach((cell, place) => (columns[place] ??= []).push(names[place] === "time" ? cell : number(cell)));
  }
  return Object.fromEntries(columns.map((column, place) => [names[place] ?? `(column ${place + 1})`, column]));
}

const cellsOf = (line) => line.split(",").map((cell) => cell.trim().replace(/^"(.*)"$/, "$1"));

function number(cell) {
  const value = Number(cell);
  return cell === "" || !Number.isFinite(value) ? cell : value;
}
