// Build elements. Text is only ever set as text, never as markup.

const OLD_SECONDS = 10;

/**
 * Return a new element.
 * @param {string} tag its name, with classes: "div.card.wide"
 * @param {object} properties attributes; functions are listeners of the event of that name
 * @param {...(Node|string|null)} children
 */
export function element(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  made.classList.add(...classes);
  for (const [key, value] of Object.entries(properties)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter((each) => each !== null && each !== undefined));
  return made;
}

/** Replace what a container has, unless it was made from the same data. The focus stays on the same key, if there is one. */
export function show(container, data, make) {
  const text = JSON.stringify(data);
  // Elements that stay keep the user's selection, scroll position and focus.
  if (container.shownData === text) return;
  container.shownData = text;
  const focused = container.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  container.replaceChildren(...[make(data)].flat().filter(Boolean));
  if (focused) (withKey(container, focused) ?? document.querySelector("main h2"))?.focus({ preventScroll: true });
}

function withKey(container, key) {
  return container.querySelector(`[data-key="${CSS.escape(key)}"]`);
}

/** Return the heading of a view that needs no visible one: it gets the focus when the user comes to the view. */
export function heading(text) {
  return element("h2.unseen", { tabindex: "-1", "aria-label": text });
}

/** Return a box with a sentence about what went wrong, or what there is not. */
export function message(text, kind = "error") {
  return element(`p.message.${kind}`, { role: kind === "error" ? "alert" : "status" }, text);
}

/** Say in a container how old the data are, if the service answers slowly. @param {number} [age] in seconds */
export function showAge(container, age = 0) {
  const text = `Ray answers slowly: as of ${Math.round(age)} seconds ago.`;
  show(container, age > OLD_SECONDS ? text : "", (words) => (words ? message(words, "info") : []));
}

/** Return a table. @param columns [class, heading] of each */
export function table(label, columns, rows) {
  const head = columns.map(([kind, text]) => element(`th${kind && `.${kind}`}`, { scope: "col" }, text));
  return element(
    "table",
    { "aria-label": label },
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows),
  );
}

/**
 * Send a request that the user wants, and say in a place what becomes of it.
 * @param {{doing: string, done: string, failed: string}} words
 * @returns {Promise<boolean>} whether it succeeded
 */
export async function report(place, words, request) {
  place.replaceChildren(message(words.doing, "info"));
  try {
    await request();
  } catch (error) {
    place.replaceChildren(message(`${words.failed} ${error.message}`));
    return false;
  }
  place.replaceChildren(message(words.done, "info"));
  return true;
}

/** Ask before something is done. @returns {Promise<boolean>} */
export function confirm(question, action) {
  return new Promise((resolve) => {
    const asker = document.activeElement;
    const close = (answer) => () => {
      // Returns the focus to the button, which a refresh may have replaced meanwhile.
      dialog.close();
      dialog.remove();
      if (!asker.isConnected && asker.dataset.key) withKey(document, asker.dataset.key)?.focus();
      resolve(answer);
    };
    const dialog = element(
      "dialog",
      // The Escape key ends a dialog with this event.
      { cancel: close(false), "aria-label": action },
      element("p", {}, question),
      element(
        "div.buttons",
        {},
        element("button", { type: "button", click: close(false), autofocus: true }, "Cancel"),
        element("button.danger", { type: "button", click: close(true) }, action),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}
