// Loaded before the first paint, so that a chosen theme does not flash.
try {
  const theme = localStorage.getItem("fenrir.theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset["theme"] = theme;
} catch {
  // Storage may be forbidden: then the system's preference holds.
}
