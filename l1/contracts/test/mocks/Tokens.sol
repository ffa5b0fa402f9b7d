// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title  A plain ERC-20 that anyone can mint, for tests; the others differ from it in one habit each.
contract TestToken {
    mapping(address account => uint256) public balanceOf;
    mapping(address account => mapping(address spender => uint256)) public allowance;
    uint256 public totalSupply;
    uint8 public constant decimals = 18;
    string public constant name = "Test token";
    string public constant symbol = "TEST";

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    error InsufficientBalance(uint256 balance, uint256 value);
    error InsufficientAllowance(uint256 allowed, uint256 value);

    function mint(address to, uint256 value) external {
        balanceOf[to] += value;
        totalSupply += value;
        emit Transfer(address(0), to, value);
    }

    function approve(address spender, uint256 value) external returns (bool) {
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
        return true;
    }

    function transfer(address to, uint256 value) external virtual returns (bool) {
        _move(msg.sender, to, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external virtual returns (bool) {
        _spend(from, value);
        _move(from, to, value);
        return true;
    }

    function _spend(address from, uint256 value) internal {
        uint256 allowed = allowance[from][msg.sender];
        if (allowed < value) revert InsufficientAllowance(allowed, value);
        if (allowed != type(uint256).max) allowance[from][msg.sender] = allowed - value;
    }

    function _move(address from, address to, uint256 value) internal virtual {
        if (balanceOf[from] < value) revert InsufficientBalance(balanceOf[from], value);
        balanceOf[from] -= value;
        balanceOf[to] += value;
        emit Transfer(from, to, value);
    }
}

/// @notice Returns nothing, as USDT does.
contract SilentToken is TestToken {
    function transfer(address to, uint256 value) external override returns (bool) {
        _move(msg.sender, to, value);
        assembly ("memory-safe") {
            return(0, 0)
        }
    }

    function transferFrom(address from, address to, uint256 value) external override returns (bool) {
        _spend(from, value);
        _move(from, to, value);
        assembly ("memory-safe") {
            return(0, 0)
        }
    }
}

/// @notice Keeps one percent of every transfer.
contract FeeToken is TestToken {
    function _move(address from, address to, uint256 value) internal override {
        super._move(from, to, value - value / 100);
        super._move(from, address(0xfee), value / 100);
    }
}

/// @notice Fails in the way that `mode` says: 0 not at all, 1 returns false, 2 reverts with a huge reason, 3 returns a
///         bomb of a megabyte, 4 burns all gas, 5 returns the word 2, 6 returns 31 bytes.
contract MoodyToken is TestToken {
    uint256 public mode;

    function setMode(uint256 mode_) external {
        mode = mode_;
    }

    function transfer(address to, uint256 value) external override returns (bool) {
        if (_misbehaves()) return false;
        _move(msg.sender, to, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external override returns (bool) {
        if (_misbehaves()) return false;
        _spend(from, value);
        _move(from, to, value);
        return true;
    }

    function _misbehaves() private view returns (bool) {
        uint256 mood = mode;
        assembly ("memory-safe") {
            switch mood
            case 2 { revert(0, 100000) }
            case 3 { return(0, 1000000) }
            case 4 { invalid() }
            case 5 {
                mstore(0, 2)
                return(0, 32)
            }
            case 6 {
                mstore(0, not(0))
                return(0, 31)
            }
        }
        return mood == 1;
    }
}

/// @notice Calls back whoever it is told to, with what it is told to, in the middle of each transfer.
contract HookToken is TestToken {
    address public target;
    bytes public data;
    bool public lastOk;
    bytes public lastReturn;

    function setHook(address target_, bytes calldata data_) external {
        target = target_;
        data = data_;
    }

    function _move(address from, address to, uint256 value) internal override {
        if (target != address(0)) (lastOk, lastReturn) = target.call(data);
        super._move(from, to, value);
    }
}
