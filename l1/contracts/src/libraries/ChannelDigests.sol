// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IChannels} from "../interfaces/IChannels.sol";

/// @title  What the sides of a channel sign, after EIP-712, and who signed it
library ChannelDigests {
    string internal constant NAME = "Millrace Channel";
    string internal constant VERSION = "1";

    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant SNAPSHOT_TYPE = keccak256(
        "Snapshot(bytes32 channelId,uint64 versionA,uint112 paidA,bytes32 locksA,uint64 versionB,uint112 paidB,bytes32 locksB)"
    );
    bytes32 private constant COOP_TYPE =
        keccak256("Coop(bytes32 channelId,uint32 epoch,uint112 payA,uint112 payB,uint64 validUntil)");
    bytes32 private constant CLOSE_TYPE = keccak256("Close(bytes32 channelId,uint64 validUntil)");

    /// @dev Half of the order of secp256k1, rounded down: of s and −s one is at most this.
    uint256 private constant MAX_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// @notice The domain of this contract on this chain.
    function separator() internal view returns (bytes32) {
        return keccak256(
            abi.encode(DOMAIN_TYPE, keccak256(bytes(NAME)), keccak256(bytes(VERSION)), block.chainid, address(this))
        );
    }

    /// @notice Id of a channel. Words with dirty upper bits give ids that no channel has: a deposit refuses them.
    function channelId(bytes32 domain, IChannels.Params calldata params) internal pure returns (bytes32 id) {
        assembly ("memory-safe") {
            // A struct without dynamic members lies in calldata as abi.encode writes it: 7 words.
            let p := mload(0x40)
            mstore(p, domain)
            calldatacopy(add(p, 32), params, 224)
            id := keccak256(p, 256)
        }
    }

    /// @notice Digest of Snapshot: the halves are six words in the order that it names them.
    function snapshot(bytes32 domain, bytes32 id, IChannels.Halves calldata halves) internal pure returns (bytes32) {
        bytes32 typeHash = SNAPSHOT_TYPE;
        bytes32 structHash;
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, typeHash)
            mstore(add(p, 32), id)
            calldatacopy(add(p, 64), halves, 192)
            structHash := keccak256(p, 256)
        }
        return _typed(domain, structHash);
    }

    /// @notice Digest of Coop.
    function coop(bytes32 domain, bytes32 id, uint32 epoch, uint112 payA, uint112 payB, uint64 validUntil)
        internal
        pure
        returns (bytes32)
    {
        return _typed(domain, keccak256(abi.encode(COOP_TYPE, id, epoch, payA, payB, validUntil)));
    }

    /// @notice Digest of Close.
    function close(bytes32 domain, bytes32 id, uint64 validUntil) internal pure returns (bytes32) {
        return _typed(domain, keccak256(abi.encode(CLOSE_TYPE, id, validUntil)));
    }

    function _typed(bytes32 domain, bytes32 structHash) private pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            let p := mload(0x40)
            mstore(p, shl(240, 0x1901))
            mstore(add(p, 2), domain)
            mstore(add(p, 34), structHash)
            digest := keccak256(p, 66)
        }
    }

    /// @notice Who signed `digest`; 0 if the signature is not canonical or nobody's. A zero signer is refused elsewhere
    ///         too: no channel has one.
    function recover(bytes32 digest, bytes calldata signature) internal pure returns (address) {
        if (signature.length != 65) return address(0);
        bytes32 r;
        bytes32 s;
        uint8 v;
        assembly ("memory-safe") {
            // The signature is 65 bytes long.
            r := calldataload(signature.offset)
            s := calldataload(add(signature.offset, 32))
            v := byte(0, calldataload(add(signature.offset, 64)))
        }
        if (uint256(s) > MAX_S) return address(0);
        // ecrecover itself gives 0 for a v other than 27 and 28, and for r or s out of range.
        return ecrecover(digest, v, r, s);
    }
}
