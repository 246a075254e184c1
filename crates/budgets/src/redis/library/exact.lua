-- value = hi * 10^9 + lo, 0 <= lo < 10^9.
local Exact = {}

local function exact_of(hi, lo)
  local carry = math.floor(lo / 1e9)
  return setmetatable({hi = hi + carry, lo = lo - carry * 1e9}, Exact)
end

local function exact(text)
  if type(text) == 'number' then text = string.format('%.0f', text) end
  local negative = string.sub(text, 1, 1) == '-'
  local digits = negative and string.sub(text, 2) or text
  local hi, lo = tonumber(string.sub(digits, 1, -10)) or 0, tonumber(string.sub(digits, -9))
  if negative then hi, lo = -hi, -lo end
  return exact_of(hi, lo)
end

Exact.__add = function(a, b) return exact_of(a.hi + b.hi, a.lo + b.lo) end
Exact.__sub = function(a, b) return exact_of(a.hi - b.hi, a.lo - b.lo) end
Exact.__unm = function(a) return exact_of(-a.hi, -a.lo) end
Exact.__eq = function(a, b) return a.hi == b.hi and a.lo == b.lo end
Exact.__lt = function(a, b) return a.hi < b.hi or (a.hi == b.hi and a.lo < b.lo) end
Exact.__le = function(a, b) return not (b < a) end

-- Whether a value is outside of an i64.
local function out_of_range(value)
  local hi, lo = value.hi, value.lo
  return hi > 9223372036 or (hi == 9223372036 and lo > 854775807) or hi < -9223372036
end

-- The text of what `exact` or `tonumber` made.
local function text_of(value)
  if type(value) == 'number' then return string.format('%.0f', value) end
  local hi, lo, sign = value.hi, value.lo, ''
  if hi < 0 then
    sign, hi, lo = '-', -hi, -lo
    if lo < 0 then hi, lo = hi - 1, lo + 1e9 end
  end
  if hi == 0 then return sign .. string.format('%.0f', lo) end
  return sign .. string.format('%.0f%09.0f', hi, lo)
end

-- How to read texts so that they can be added and compared.
local function reader(...)
  for at = 1, select('#', ...) do
    if #select(at, ...) > SHORT then return exact end
  end
  return tonumber
end

-- Whether the magnitudes of three texts together pass the range of a counter.
local function overflow(a, b, c)
  local function magnitude(text)
    return exact(string.sub(text, 1, 1) == '-' and string.sub(text, 2) or text)
  end
  return out_of_range(magnitude(a) + magnitude(b) + magnitude(c))
end

-- Whether a <= b, for decimal texts of any u64.
local function up_to(a, b) return #a < #b or (#a == #b and a <= b) end

