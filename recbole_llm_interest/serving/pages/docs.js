"use strict";

window.SwaggerUIBundle({ url: "/openapi.json", dom_id: "#interface", deepLinking: true });
