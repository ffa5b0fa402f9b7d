// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice A contract for tests of the chain's clients: it stores, logs, and fails in every way a contract can.
contract Probe {
    error TooSmall(uint256 min, uint256 got);

    event Noted(uint256 indexed key, address indexed by, uint256 value);

    uint256 public value;
    uint256 public count;

    /// @notice Stores and logs a value of at least 10.
    function note(uint256 key, uint256 newValue) external payable {
        if (newValue < 10) revert TooSmall(10, newValue);
        value = newValue;
        count += 1;
        emit Noted(key, msg.sender, newValue);
    }

    /// @notice Logs many times.
    function noteMany(uint256 key, uint256 times) external {
        for (uint256 i = 0; i < times; ++i) emit Noted(key, msg.sender, i);
    }

    /// @notice Fails unless called in a block of at least this time.
    function notBefore(uint256 earliest) external {
        require(block.timestamp >= earliest, "too early");
        count += 1;
    }

    /// @notice Passes a call on, which needs more gas than it uses.
    function relay(address to, bytes calldata data) external {
        (bool success, ) = to.call(data);
        require(success, "inner call failed");
    }

    /// @notice Hash of an earlier block.
    function hashOf(uint256 number) external view returns (bytes32) {
        return blockhash(number);
    }

    /// @notice Block time.
    function time() external view returns (uint256) {
        return block.timestamp;
    }

    /// @notice Uses up all gas.
    function spin() external pure {
        while (true) {}
    }
}
