# The normal distribution; normal.py says how.
cdef inline real normal(real z, real* density) noexcept nogil:
    """Return the share below z."""
    cdef real t, s, w, y
    t = -z if z < 0 else z
    if real is float:
        density[0] = exp((t * t) * <float>-0.5) * <float>0.3989422804014327
        s = <float>1.0 / (t + <float>4.0)
        w = <float>1.0 - <float>8.0 * s
        y = <float>-0.0003012576179704717
        y = y * w + <float>0.0005044883437311499
        y = y * w + <float>0.003941216453318585
        y = y * w + <float>-0.008838831764940635
        y = y * w + <float>-0.01887303269917236
        y = y * w + <float>0.1514171139469637
        y = y * w + <float>-0.4675430358554648
        y = y * w + <float>0.9704077584762868
        y = y * w + <float>-1.5237708514389041
        y = y * w + <float>1.893219083128447
        y = density[0] * (s * y)
        return <float>1.0 - y if z > 0 else y
    else:
        density[0] = exp((t * t) * -0.5) * 0.3989422804014327
        s = 1.0 / (t + 6.0)
        w = 1.0 - 12.0 * s
        y = 6.7815566228664676e-09
        y = y * w + 2.3109275981187218e-10
        y = y * w + -9.477822130736374e-08
        y = y * w + 3.197415762424222e-08
        y = y * w + 7.640804676923629e-07
        y = y * w + -1.0923287815240553e-06
        y = y * w + -4.503365134798767e-06
        y = y * w + 1.7046433766267797e-05
        y = y * w + 2.6936038773297913e-06
        y = y * w + -0.00016231346959688213
        y = y * w + 0.00045460359071552016
        y = y * w + 8.239400691163137e-05
        y = y * w + -0.005343141921139463
        y = y * w + 0.02514103183718275
        y = y * w + -0.07766866795119597
        y = y * w + 0.18842804928936427
        y = y * w + -0.3827125866697391
        y = y * w + 0.6717118214988944
        y = y * w + -1.0375024310762673
        y = y * w + 1.4261935116084168
        y = y * w + -1.7571690543441032
        y = y * w + 1.9485319307624096
        y = density[0] * (s * y)
        return 1.0 - y if z > 0 else y
