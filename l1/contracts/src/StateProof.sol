// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRollup} from "./interfaces/IRollup.sol";
import {Poseidon3} from "./libraries/Poseidon3.sol";
import {Poseidon4} from "./libraries/Poseidon4.sol";

/// @title  Proof of a leaf, computed with Poseidon on the chain
/// @notice leaf → owner → leaf hash → 12 levels → root. A contract of its own because of its size; Rollup creates it.
contract StateProof {
    uint256 private constant R = 21888242871839275222246405745257275088548364400416034343698204186575808495617;
    uint256 private constant DEPTH = 12;

    /// @notice The root of the tree in which `leaf` stands at its index.
    /// @dev    The path's digits are the index' digits: a leaf has one index, so it exits once.
    function rootOf(IRollup.Leaf calldata leaf) external pure returns (uint256 root) {
        root = _leafHash(leaf);
        bytes memory table = Poseidon4.constants();
        uint256 position = leaf.index;
        for (uint256 level = 0; level < DEPTH; ++level) {
            root = _parent(table, root, position & 3, leaf.siblings[level]);
            position >>= 2;
        }
    }

    function _leafHash(IRollup.Leaf calldata leaf) private pure returns (uint256) {
        bytes memory table = Poseidon3.constants();
        uint256 owner = Poseidon3.hash(table, uint160(leaf.l1Address), _word(leaf.ax), _word(leaf.ay));
        return Poseidon3.hash(table, owner, leaf.token | (uint256(leaf.nonce) << 32), leaf.balance);
    }

    /// @dev The node whose child `digit` is `child`; the siblings fill the other places in order.
    function _parent(bytes memory table, uint256 child, uint256 digit, uint256[3] calldata siblings)
        private
        pure
        returns (uint256)
    {
        uint256 a = _word(siblings[0]);
        uint256 b = _word(siblings[1]);
        uint256 c = _word(siblings[2]);
        if (digit == 0) return Poseidon4.hash(table, child, a, b, c);
        if (digit == 1) return Poseidon4.hash(table, a, child, b, c);
        if (digit == 2) return Poseidon4.hash(table, a, b, child, c);
        return Poseidon4.hash(table, a, b, c, child);
    }

    function _word(uint256 word) private pure returns (uint256) {
        if (word >= R) revert IRollup.WordOutOfRange(word);
        return word;
    }
}
