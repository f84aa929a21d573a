// The scheme `flopcoin-channel` for x402's own JavaScript client: the voucher comes from the node's gateway.
//
//   import { x402Client, wrapFetchWithPayment } from "@x402/fetch";
//   import { payingFetch } from "./flopcoin_channel.mjs";
//   const pay = payingFetch({ x402Client, wrapFetchWithPayment }, { url: "http://127.0.0.1:8403", token });
//   const answer = await pay("https://api.example/upscale", { method: "POST", body });
//
// A voucher is bound to its request, so each request gets a client of its own. `answer.dux` says what it cost.
import { createHash } from "node:crypto";
import { request as httpRequest } from "node:http";

export const SCHEME = "flopcoin-channel";
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

// The gateway refuses what looks like a browser, and `fetch` says `sec-fetch-mode`: so a plain request.
function ask(gateway, path, told) {
  return new Promise((resolve, reject) => {
    const headers = { "Dux-Token": gateway.token, "Content-Type": "application/json" };
    const sent = httpRequest(`${gateway.url}/${path}`, { method: "POST", headers }, (came) => {
      let text = "";
      came.setEncoding("utf8");
      came.on("data", (part) => (text += part));
      came.on("end", () => {
        const said = JSON.parse(text);
        if (came.statusCode === 200) resolve(said);
        else reject(new Error(`the gateway did not pay: ${said.error}`));
      });
    });
    sent.on("error", reject);
    sent.end(JSON.stringify(told));
  });
}

// What x402 calls a scheme client, for one request.
export class FlopcoinChannel {
  scheme = SCHEME;

  constructor(gateway, request, body, required) {
    Object.assign(this, { gateway, request, body, required });
    this.oid = undefined;
  }

  async createPaymentPayload(x402Version, _requirements, _context) {
    const told = { required: this.required(), method: this.request.method, url: this.request.url };
    const paid = await ask(this.gateway, "pay", { ...told, body_sha256: sha256(this.body), oid: this.oid });
    this.oid = paid.oid;
    return { x402Version, payload: paid.payload, extensions: paid.extensions };
  }
}

// A `fetch` that pays. `mostFlorins`: what one call may cost, checked by x402's own spend controls.
export function payingFetch({ x402Client, wrapFetchWithPayment }, gateway, { mostFlorins = 100_000_000 } = {}) {
  return async (input, init) => {
    const request = new Request(input, init);
    request.headers.set("Accept-Encoding", "identity"); // what is hashed is what was signed
    const body = Buffer.from(await request.clone().arrayBuffer());
    let header = "";
    const watching = async (sent) => {
      const came = await fetch(sent);
      header = came.headers.get("PAYMENT-REQUIRED") ?? header;
      return came;
    };
    const scheme = new FlopcoinChannel(gateway, request, body, () => header);
    const client = new x402Client().register("bip122:*", scheme);
    const asset = { network: "bip122:*", asset: "FLOP", maxAmountPerPayment: String(mostFlorins) };
    client.setSpendControls({ allowedAssets: [asset] });
    const answer = await wrapFetchWithPayment(watching, client)(request);
    const response = answer.headers.get("PAYMENT-RESPONSE");
    if (response && scheme.oid) {
      const bytes = Buffer.from(await answer.clone().arrayBuffer());
      const told = { oid: scheme.oid, response, status: answer.status, headers: [...answer.headers] };
      answer.dux = await ask(gateway, "settled", { ...told, body_sha256: sha256(bytes) });
    }
    return answer;
  };
}
