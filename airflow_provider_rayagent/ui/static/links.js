// Links to pages elsewhere.

import { element } from "./dom.js";
import { openInHost } from "./host.js";

/** Return a button that opens a page about a job in a new tab. @param {{name: string, url: string}} page */
export function pageLink({ name, url }) {
  const newTab = { target: "_blank", rel: "noopener noreferrer" };
  const click = (event) => {
    event.preventDefault();
    openInHost(url, newTab);
  };
  return element("a.button", { href: url, ...newTab, click, "data-key": `link ${name}` }, name);
}
