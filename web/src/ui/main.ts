document.body.textContent = "Fenrir";
