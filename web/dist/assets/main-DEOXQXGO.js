"use strict";(()=>{document.body.textContent="Fenrir";})();
