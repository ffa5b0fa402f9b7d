// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IRollup} from "../interfaces/IRollup.sol";

/// @title  Groth16 over BN254, several proofs of one key in one pairing
/// @notice With ρ_0 = 1 and random ρ_i it checks
///         Π e(ρ_i·A_i, B_i) · e(Σρ_i·(−α), β) · e(Σρ_i·x_i, −γ) · e(Σρ_i·C_i, −δ) = 1, in k + 3 pairs.
///         Without random weights the errors of two false proofs could cancel.
///
/// A key is stored as the code of a contract: 0x00, then −α, β, −γ, −δ, IC_0 … IC_3, 22 words.
library Groth16 {
    uint256 internal constant R = 21888242871839275222246405745257275088548364400416034343698204186575808495617;
    uint256 internal constant Q = 21888242871839275222246405745257275088696311157297823662689037894645226208583;

    /// @dev C, z, y.
    uint256 internal constant INPUTS = 3;

    uint256 private constant KEY_BYTES = 704;
    uint256 private constant GAMMA = 0xc0;
    uint256 private constant DELTA = 0x140;
    uint256 private constant IC = 0x1c0;

    // The generator of G2, imaginary parts first.
    uint256 private constant G2_X1 = 11559732032986387107991004021392285783925812861821192530917403151452391805634;
    uint256 private constant G2_X0 = 10857046999023057135944570762232829481370756359578518086990519993285655852781;
    uint256 private constant G2_Y1 = 4082367875863433681332203403145435568316851327593401208105741076214120093531;
    uint256 private constant G2_Y0 = 8495653923123431417604973247489272438418190587263600148770280649306958101930;

    // ------------------------------------------------------------------------------------------------ verify

    /// @notice Reverts unless every proof is true of its inputs. Inputs must be below r.
    /// @param  key    contract that holds the key
    /// @param  inputs INPUTS words for each proof
    /// @param  seed   commits to all statements and proofs; the weights come from it
    function verify(address key, uint256[] memory inputs, IRollup.Proof[] calldata proofs, bytes32 seed) internal view {
        uint256 k = proofs.length;
        uint256[] memory pairs = new uint256[](6 * (k + 3));
        uint256[22] memory keyWords;
        // Scratch of at most 4 words for the curve precompiles, and the sums Σρ_i and Σρ_i·x_i.
        uint256[4] memory scratch;
        uint256[4] memory sums;
        assembly ("memory-safe") {
            extcodecopy(key, keyWords, 1, KEY_BYTES)
            mstore(sums, 1)
        }
        // The tail of `pairs` holds the three fixed pairs; the last one's G1 point gathers Σρ_i·C_i.
        for (uint256 i = 0; i < k; ++i) {
            uint256 weight = i == 0 ? 1 : uint128(uint256(keccak256(abi.encode(seed, i))));
            _addProof(pairs, proofs[i], i, k, weight, scratch);
            _addInputs(sums, inputs, i, weight);
        }
        _addKey(pairs, keyWords, sums, k, scratch);
        bool isOne;
        assembly ("memory-safe") {
            isOne := staticcall(gas(), 8, add(pairs, 32), mul(192, add(k, 3)), scratch, 32)
            isOne := and(isOne, and(eq(returndatasize(), 32), eq(mload(scratch), 1)))
        }
        if (!isOne) revert IRollup.ProofIsFalse();
    }

    /// @dev Pair i becomes (ρ·A, B), and ρ·C joins the sum in the last pair.
    function _addProof(
        uint256[] memory pairs,
        IRollup.Proof calldata proof,
        uint256 i,
        uint256 k,
        uint256 weight,
        uint256[4] memory scratch
    ) private view {
        uint256 pair;
        uint256 sum;
        assembly ("memory-safe") {
            pair := add(add(pairs, 32), mul(192, i))
            sum := add(add(pairs, 32), mul(192, add(k, 2)))
            // A at 0x00, B at 0x40, C at 0xc0: the layout of the proof is that of a pair, and C after it.
            calldatacopy(pair, proof, 192)
            calldatacopy(scratch, add(proof, 192), 64)
        }
        _checkCoordinates(pair, 6);
        _checkCoordinates(_at(scratch), 2);
        if (i == 0) {
            assembly ("memory-safe") {
                mcopy(sum, scratch, 64)
            }
        } else {
            _multiply(_at(scratch), weight, _at(scratch));
            assembly ("memory-safe") {
                mcopy(add(scratch, 64), sum, 64)
            }
            _add(_at(scratch), sum);
            assembly ("memory-safe") {
                mcopy(scratch, pair, 64)
            }
            _multiply(_at(scratch), weight, pair);
        }
    }

    /// @dev sums = (Σρ_i, Σρ_i·x_i0, Σρ_i·x_i1, Σρ_i·x_i2) mod r; the first proof's weight 1 is there already.
    function _addInputs(uint256[4] memory sums, uint256[] memory inputs, uint256 i, uint256 weight) private pure {
        if (i != 0) sums[0] = addmod(sums[0], weight, R);
        for (uint256 j = 0; j < INPUTS; ++j) {
            sums[j + 1] = addmod(sums[j + 1], mulmod(weight, inputs[INPUTS * i + j], R), R);
        }
    }

    /// @dev The three fixed pairs: (Σρ·(−α), β), (X, −γ), (Σρ·C, −δ), the last G1 point being there already.
    function _addKey(
        uint256[] memory pairs,
        uint256[22] memory key,
        uint256[4] memory sums,
        uint256 k,
        uint256[4] memory scratch
    ) private view {
        uint256 base;
        assembly ("memory-safe") {
            base := add(add(pairs, 32), mul(192, k))
            mcopy(base, key, 192)
            mcopy(add(base, 256), add(key, GAMMA), 128)
            mcopy(add(base, 448), add(key, DELTA), 128)
            // X starts as IC_0.
            mcopy(add(base, 192), add(key, IC), 64)
        }
        if (k > 1) {
            _multiplyAt(base, sums[0], base, scratch);
            _multiplyAt(base + 192, sums[0], base + 192, scratch);
        }
        for (uint256 j = 0; j < INPUTS; ++j) {
            uint256 point;
            assembly ("memory-safe") {
                point := add(add(key, IC), mul(64, add(j, 1)))
            }
            _multiplyAt(point, sums[j + 1], _at(scratch), scratch);
            assembly ("memory-safe") {
                mcopy(add(scratch, 64), add(base, 192), 64)
            }
            _add(_at(scratch), base + 192);
        }
    }

    function _at(uint256[4] memory words) private pure returns (uint256 pointer) {
        assembly ("memory-safe") {
            pointer := words
        }
    }

    /// @dev `result` = scalar · point, all pointers, through the scratch.
    function _multiplyAt(uint256 point, uint256 scalar, uint256 result, uint256[4] memory scratch) private view {
        assembly ("memory-safe") {
            mcopy(scratch, point, 64)
        }
        _multiply(_at(scratch), scalar, result);
    }

    /// @dev `result` = scalar · the point at `scratch`; the word after the point is overwritten.
    function _multiply(uint256 scratch, uint256 scalar, uint256 result) private view {
        bool ok;
        assembly ("memory-safe") {
            mstore(add(scratch, 64), scalar)
            ok := staticcall(gas(), 7, scratch, 96, result, 64)
            ok := and(ok, eq(returndatasize(), 64))
        }
        if (!ok) revert IRollup.ProofIsFalse();
    }

    /// @dev `result` = the sum of the two points at `scratch`.
    function _add(uint256 scratch, uint256 result) private view {
        bool ok;
        assembly ("memory-safe") {
            ok := staticcall(gas(), 6, scratch, 128, result, 64)
            ok := and(ok, eq(returndatasize(), 64))
        }
        if (!ok) revert IRollup.ProofIsFalse();
    }

    function _checkCoordinates(uint256 pointer, uint256 count) private pure {
        for (uint256 i = 0; i < count; ++i) {
            uint256 coordinate;
            assembly ("memory-safe") {
                coordinate := mload(add(pointer, mul(32, i)))
            }
            if (coordinate >= Q) revert IRollup.CoordinateOutOfRange(coordinate);
        }
    }

    // ------------------------------------------------------------------------------------------------ keys

    /// @notice Stores a key as the code of a new contract, −α, −γ and −δ baked in.
    /// @dev    Refuses what would make false proofs easy or true ones impossible: δ = ±γ, δ = ± the generator, points
    ///         at infinity, off the curve or (G2) outside the subgroup, a wrong number of inputs.
    function store(uint16 id, IRollup.VerifyingKey memory key) internal returns (address) {
        if (key.ic.length != INPUTS + 1) revert IRollup.KeyInputs(id, INPUTS + 1, key.ic.length);
        _checkG1(id, key.alpha);
        for (uint256 i = 0; i < key.ic.length; ++i) {
            _checkG1(id, key.ic[i]);
        }
        _checkG2(id, key.beta);
        _checkG2(id, key.gamma);
        _checkG2(id, key.delta);
        uint256[4] memory generator = [G2_X1, G2_X0, G2_Y1, G2_Y0];
        if (_sameUpToSign(key.delta, key.gamma) || _sameUpToSign(key.delta, generator)) {
            revert IRollup.KeyInsecure(id);
        }
        return _deploy(
            bytes.concat(
                abi.encode(key.alpha[0], Q - key.alpha[1], key.beta, _negated(key.gamma), _negated(key.delta)),
                abi.encode(key.ic[0], key.ic[1], key.ic[2], key.ic[3])
            )
        );
    }

    /// @dev On this curve the points with a given x are one point and its negative.
    function _sameUpToSign(uint256[4] memory a, uint256[4] memory b) private pure returns (bool) {
        return a[0] == b[0] && a[1] == b[1];
    }

    /// @dev No point of G2's subgroup has y = 0, but one coordinate of y may be 0.
    function _negated(uint256[4] memory p) private pure returns (uint256[4] memory) {
        return [p[0], p[1], (Q - p[2]) % Q, (Q - p[3]) % Q];
    }

    function _checkG1(uint16 id, uint256[2] memory p) private view {
        bool ok = (p[0] | p[1]) != 0 && p[0] < Q && p[1] < Q;
        uint256[4] memory scratch;
        assembly ("memory-safe") {
            mcopy(scratch, p, 64)
            // p + infinity: fails unless p is on the curve
            ok := and(ok, staticcall(gas(), 6, scratch, 128, scratch, 64))
        }
        if (!ok) revert IRollup.KeyPoint(id);
    }

    function _checkG2(uint16 id, uint256[4] memory p) private view {
        bool ok = (p[0] | p[1] | p[2] | p[3]) != 0 && p[0] < Q && p[1] < Q && p[2] < Q && p[3] < Q;
        uint256[6] memory scratch;
        assembly ("memory-safe") {
            mcopy(add(scratch, 64), p, 128)
            // e(infinity, p): fails unless p is in the subgroup
            ok := and(ok, staticcall(gas(), 8, scratch, 192, scratch, 32))
        }
        if (!ok) revert IRollup.KeyPoint(id);
    }

    /// @dev Creation code that returns what follows it: PUSH2 size, DUP1, PUSH1 10, RETURNDATASIZE, CODECOPY,
    ///      RETURNDATASIZE, RETURN. The leading 0x00 stops whoever calls the key.
    function _deploy(bytes memory words) private returns (address key) {
        bytes memory code = abi.encodePacked(hex"61", uint16(KEY_BYTES + 1), hex"80600a3d393df3", hex"00", words);
        assembly ("memory-safe") {
            key := create(0, add(code, 32), mload(code))
        }
        // Creation fails only for want of gas, and then so does the deployment.
        assert(key != address(0));
    }
}
