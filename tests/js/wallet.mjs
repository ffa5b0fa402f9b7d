// A wallet as a stranger would write it: keys of @zk-kit/eddsa-poseidon, transactions of docs/protocol.md §3, bodies of the API.
//
//   secret, L1 address → payment address        transfer or withdraw → core → message → signature → body of POST /v1/transactions
import { addressOf, coreOf, eddsa, hexWord, messageOf, ownerOf } from './protocol.mjs';

/** Unix seconds. */
export const now = () => BigInt(Math.floor(Date.now() / 1000));
const HOUR = 3600n;
const text = (word) => word.toString();
const point = ([x, y]) => ({ x: text(x), y: text(y) });

export class Wallet {
  /** `secret` makes the L2 key; `l1Address` receives what leaves. */
  constructor(secret, l1Address, domain) {
    Object.assign(this, { secret, l1Address, domain });
    this.key = eddsa.derivePublicKey(secret);
    this.owner = ownerOf(l1Address, this.key);
    this.address = addressOf(this.owner);
  }

  /** A transfer from an account {index, token} at `nonce`, unsigned. `recipient` is an owner. */
  transfer(account, nonce, recipient, amount, options = {}) {
    return { ...this.#terms('transfer', account, nonce, amount, options), recipient };
  }

  /** A withdrawal to this wallet's L1 address, unsigned. */
  withdraw(account, nonce, amount, options = {}) {
    return { ...this.#terms('withdraw', account, nonce, amount, options), recipient: 0n };
  }

  #terms(kind, account, nonce, amount, { fee = 0n, link = 0n, validUntil = now() + HOUR }) {
    const [from, token] = [BigInt(account.index), BigInt(account.token)];
    return { kind, from, nonce: BigInt(nonce), token, amount, fee, link, validUntil };
  }

  /** Signs: the transaction's id, and its form in a submission. */
  sign(transaction) {
    const message = messageOf(transaction, this.domain);
    const { R8, S } = eddsa.signMessage(this.secret, message);
    const body = {
      transaction: bodyOf(transaction),
      l1_address: this.l1Address,
      key: point(this.key),
      signature: { r8: point(R8), s: text(S) },
      domain: text(this.domain),
    };
    return { id: hexWord(message), body };
  }
}

/** What is signed, as the API states it. */
function bodyOf({ kind, from, nonce, token, amount, fee, link, validUntil, recipient }) {
  return {
    kind,
    from: Number(from),
    nonce: Number(nonce),
    token: Number(token),
    amount: text(amount),
    fee: text(fee),
    ...(kind === 'transfer' && { recipient: addressOf(recipient) }),
    link: text(link),
    valid_until: Number(validUntil),
  };
}

/** Links two unsigned transactions to each other: both happen in one batch, or none. */
export function linkPair(first, second) {
  return [
    { ...first, link: coreOf(second) },
    { ...second, link: coreOf(first) },
  ];
}
