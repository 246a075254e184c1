-- Where the store lane reads on in each partition of a broker.
SELECT kpart, max(next) AS next FROM lane_offsets GROUP BY kpart ORDER BY kpart
