// Orders to the run. The token, if the page needs one, comes after the # of the address and is kept for this tab.

const KEY = "sparse-actors token";

function token() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(KEY);
}

function newName() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

let timer = 0;

export function say(text) {
  const said = document.getElementById("said");
  said.textContent = text;
  said.classList.add("shown");
  clearTimeout(timer);
  timer = setTimeout(() => said.classList.remove("shown"), 6000);
}

export async function order(ask, fields = {}) {
  const headers = { "Content-Type": "application/json" };
  const secret = token();
  if (secret) headers.Authorization = `Bearer ${secret}`;
  const named = ask === "stop" ? {} : { request: newName() };
  try {
    const answer = await fetch("order", { method: "POST", headers, body: JSON.stringify({ ask, ...fields, ...named }) });
    const { said, refused } = await answer.json();
    say(refused ? `Not done: ${refused}` : said);
    return !refused;
  } catch {
    say("Not done: nobody answers. Does the page still have contact?");
    return false;
  }
}

token();
