// Before anything is drawn: the theme that was chosen last, else the system's, also when that changes.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const chosen = localStorage.getItem("mmace-theme");
    const theme = system.matches ? "dark" : "light";
    document.documentElement.dataset.theme = ["dark", "light"].includes(chosen) ? chosen : theme;
  };
  apply();
  system.addEventListener("change", apply);
})();
