// Terminal colors. The server passes on nothing else of what terminals understand.

const SEQUENCE = /\x1b\[([0-9;:]*)m/g;

/** Return a text as nodes, with classes for its colors. */
export function colored(text) {
  if (!text.includes("\x1b")) return [document.createTextNode(text)];
  const nodes = [];
  let [state, last] = [{}, 0];
  const add = (part) => {
    if (!part) return;
    const span = document.createElement("span");
    if (state.color !== undefined) span.classList.add(`color-${state.color}`);
    if (state.bold) span.classList.add("bold");
    span.textContent = part;
    nodes.push(span);
  };
  for (const found of text.matchAll(SEQUENCE)) {
    add(text.slice(last, found.index));
    last = found.index + found[0].length;
    // `ESC[m` has no code: Number("") is 0, which resets.
    state = changed(state, found[1].split(/[;:]/).map(Number));
  }
  add(text.slice(last));
  return nodes;
}

function changed(state, codes) {
  const next = { ...state };
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at];
    if (code === 0) Object.keys(next).forEach((key) => delete next[key]);
    else if (code === 1) next.bold = true;
    else if (code === 22) next.bold = false;
    else if (code >= 30 && code <= 37) next.color = code - 30;
    else if (code >= 90 && code <= 97) next.color = code - 90;
    else if (code === 39) delete next.color;
    // Colors of a larger palette are not shown.
    else if (code === 38 || code === 48) at += codes[at + 1] === 5 ? 2 : 4;
  }
  return next;
}
