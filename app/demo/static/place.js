// What depends on where the page was opened: the port in the picture, and how to reach the status page.

import { $ } from "./shared.js";

if (location.port) $("port").textContent = `:${location.port}`;

const status = $("status"); // not there where no admin port is published
if (status) {
  const port = status.dataset.adminPort;
  const url = `http://localhost:${port}/status`;
  if (isLoopback(location.hostname)) {
    const link = document.createElement("a");
    link.href = url;
    link.textContent = url;
    status.replaceChildren(link);
  } else {
    const tunnel = document.createElement("code");
    tunnel.textContent = `ssh -N -L ${port}:localhost:${port} ${location.hostname.replace(/[[\]]/g, "")}`; // ssh wants no brackets
    const address = document.createElement("code");
    address.textContent = url;
    status.append(" From elsewhere, run ", tunnel, " and then open ", address, ".");
  }
}

function isLoopback(host) {
  return /^(localhost|.+\.localhost|127\.[\d.]+|\[::1\])$/.test(host);
}
