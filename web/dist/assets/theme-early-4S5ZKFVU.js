"use strict";(()=>{try{let e=localStorage.getItem("fenrir.theme");(e==="dark"||e==="light")&&(document.documentElement.dataset.theme=e)}catch{}})();
