// Requests to the server. An answer that is an error becomes an Error with the server's sentence.

const NO_SERVER = "the server does not answer; is it still running in the terminal?";
const TOO_LARGE = 413;

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(`api/${path}`, options);
  } catch {
    throw new Error(NO_SERVER);
  }
  const kind = answer.headers.get("Content-Type") || "";
  const value = kind.startsWith("application/json") ? await answer.json() : {};
  if (!answer.ok) {
    throw new Error(value.error || (answer.status === TOO_LARGE ? "the file is too large" : `the server answered ${answer.status}`));
  }
  return value;
}

export const read = (path) => ask(path);
export const send = (path, value) =>
  ask(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(value)});
export const upload = (file, settings) =>
  ask(`images?${new URLSearchParams({name: file.name, ...settings})}`, {method: "POST", body: file});
export const remove = (path) => ask(path, {method: "DELETE"});
