"use strict";
(() => {
  const main = document.querySelector("main");
  const { to, wait } = main.dataset;
  const part = (id) => document.getElementById(id);
  // An editor that answers the manager and not the router would bring this page again and again.
  const opened = "sessionctl-opened";
  const open = () => {
    let recently = false;
    try {
      recently = Date.now() - Number(sessionStorage.getItem(opened)) < 10000;
      sessionStorage.setItem(opened, String(Date.now()));
    } catch { /* No storage: no pause. */ }
    setTimeout(() => location.replace(to), recently ? 3000 : 100);
  };
  const show = (step) => {
    document.title = step.heading;
    part("heading").textContent = step.heading;
    part("text").textContent = step.text;
    part("again").firstElementChild.textContent = step.action;
    part("again").hidden = step.busy;
    for (const id of ["bar", "note"]) part(id).hidden = !step.busy;
  };
  if (part("bar").hidden) return;
  const source = new EventSource("/_session/progress");
  // Where events do not come through, asking does.
  const ask = () => { source.close(); location.replace(wait); };
  let patience = setTimeout(ask, 10000);
  const heard = () => { clearTimeout(patience); };
  source.addEventListener("step", (event) => { heard(); show(JSON.parse(event.data)); });
  source.addEventListener("ready", () => { heard(); source.close(); open(); });
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return;
    clearTimeout(patience);
    patience = setTimeout(ask, 3000);
  };
})();
