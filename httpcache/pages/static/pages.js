// What the pages do beyond plain HTML: tabs, copy buttons, and a date that changes all lines. They are whole without it.
"use strict";

function say(text) {
  const place = document.getElementById("said");
  place.textContent = "";
  setTimeout(() => { place.textContent = text; }, 50);
}

// A list of links to sections becomes tabs (WAI-ARIA Authoring Practices: arrow keys move, Home and End jump).
function makeTabs(box) {
  const list = box.querySelector("ul");
  const tabs = [...list.querySelectorAll("a")];
  const panels = tabs.map((tab) => document.getElementById(tab.hash.slice(1)));
  list.setAttribute("role", "tablist");
  tabs.forEach((tab, place) => {
    tab.parentElement.setAttribute("role", "presentation");
    tab.setAttribute("role", "tab");
    tab.id = `tab-${panels[place].id}`;
    tab.setAttribute("aria-controls", panels[place].id);
    panels[place].setAttribute("role", "tabpanel");
    panels[place].setAttribute("aria-labelledby", tab.id);
  });
  function select(chosen) {
    tabs.forEach((tab, place) => {
      tab.setAttribute("aria-selected", String(place === chosen));
      tab.tabIndex = place === chosen ? 0 : -1;
      panels[place].hidden = place !== chosen;
    });
  }
  function open(chosen) {
    select(chosen);
    history.replaceState(null, "", tabs[chosen].hash);
  }
  list.addEventListener("click", (event) => {
    const tab = event.target.closest("a");
    if (!tab) return;
    event.preventDefault();
    open(tabs.indexOf(tab));
  });
  list.addEventListener("keydown", (event) => {
    const now = tabs.indexOf(document.activeElement);
    const steps = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: tabs.length - 1, " ": now };
    if (now < 0 || !(event.key in steps)) return;
    event.preventDefault();
    const next = (steps[event.key] + tabs.length) % tabs.length;
    open(next);
    tabs[next].focus();
  });
  const asked = () => tabs.findIndex((tab) => tab.hash === location.hash);
  window.addEventListener("hashchange", () => { if (asked() >= 0) select(asked()); });
  select(Math.max(0, asked()));
}

// Browsers give the clipboard to pages over https alone; over http the text is selected and copied as by hand.
async function copy(pre) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(pre.textContent);
    return;
  }
  getSelection().selectAllChildren(pre);
  if (!document.execCommand("copy")) throw new Error("refused");
}

function addCopyButton(pre) {
  const box = document.createElement("div");
  const button = document.createElement("button");
  box.className = "copied";
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy: ${pre.getAttribute("aria-label")}`);
  button.addEventListener("click", async () => {
    try {
      await copy(pre);
      button.textContent = "Copied";
      say("Copied");
    } catch {
      say("The browser did not copy it: select the text and copy it by hand");
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  pre.replaceWith(box);
  box.append(pre, button);
}

function followDate(form) {
  const input = form.querySelector("input");
  form.querySelector("button").hidden = true;
  const change = () => {
    if (!input.value || !input.validity.valid) return;
    for (const place of document.querySelectorAll("[data-date]")) place.textContent = input.value;
    const address = new URL(location);
    address.searchParams.set(input.name, input.value);
    history.replaceState(null, "", address);
    say(`All lines are as of ${input.value}`);
  };
  input.addEventListener("change", change);
  form.addEventListener("submit", (event) => { event.preventDefault(); change(); });
}

document.querySelectorAll("[data-tabs]").forEach(makeTabs);
document.querySelectorAll("[data-copy]").forEach(addCopyButton);
document.querySelectorAll("[data-dated]").forEach(followDate);
